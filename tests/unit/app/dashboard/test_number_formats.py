import datetime as dt

import pytest

from app.dashboard.number_formats import ago, duration, millions, percent, whole, words


@pytest.mark.parametrize(
    ("count", "digits", "text"),
    [
        (394_900_000, 1, "394.9M"),
        (4_303_904, 2, "4.30M"),
        (999_950, 1, "1.0M"),
        (999_949, 1, "999.9k"),
        (12_345, 2, "12.3k"),
        (999, 1, "999"),
        (0, 1, "0"),
        (None, 1, "–"),
    ],
)
def test_millions(count: int | None, digits: int, text: str) -> None:
    assert millions(count, digits) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (None, "–")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds).replace("\u202f", " ") == text


def test_ago() -> None:
    now = dt.datetime.now(dt.UTC)
    assert ago(now) == "just now"
    assert ago(now - dt.timedelta(minutes=5, seconds=30)).replace("\u202f", " ") == "5 min ago"


def test_the_rest() -> None:
    assert percent(0.7123) == "71.2\u202f%"
    assert percent(0.999, 0) == "99\u202f%"
    assert percent(None) == "–"
    assert whole(279_936) == "279,936"
    assert whole(6**19) == "6.09\u202f×\u202f10^14"
    assert words("fit_gcn") == "Fit GCN"
