"""Numbers and times as a person reads them: 394.9M, 71.2 %, 2 min 5 s."""

import datetime as dt
from typing import Any

from app.domain.whole_percent import whole_percent

_DASH = "\N{EN DASH}"
_THIN = "\N{NARROW NO-BREAK SPACE}"


def millions(count: float | None, digits: int = 1) -> str:
    """Return a count in millions, or in thousands where it is small: ``394.9M``, ``12.3k``."""
    if count is None:
        return _DASH
    if count >= 999_950:
        return f"{count / 1e6:,.{digits}f}M"
    return f"{count / 1e3:,.1f}k" if count >= 1000 else f"{count:,.0f}"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction in percent: ``71.2 %``; without decimals rounded down, as is right for progress."""
    if fraction is not None and digits == 0:
        return f"{whole_percent(fraction)}{_THIN}%"
    return _DASH if fraction is None else f"{100 * fraction:.{digits}f}{_THIN}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a plain number with a fixed number of decimals."""
    return _DASH if value is None else f"{value:.{digits}f}"


def whole(count: int | None) -> str:
    """Return a whole number with separators; large ones as a power of ten."""
    if count is None:
        return _DASH
    return f"{count:,}" if count < 10**9 else f"{count:.2e}".replace("e+", f"{_THIN}\N{MULTIPLICATION SIGN}{_THIN}10^")


def duration(seconds: float | None) -> str:
    """Return a duration with its two largest units: ``2 min 5 s``."""
    if seconds is None:
        return _DASH
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{_THIN}{unit}")
    return " ".join(parts[:2])


def ago(moment: dt.datetime | None) -> str:
    """Return how long ago a moment was, to the largest unit: ``5 min ago``."""
    if moment is None:
        return _DASH
    seconds = (dt.datetime.now(dt.UTC) - moment).total_seconds()
    return "just now" if seconds < 10 else f"{duration(seconds).split(' ')[0]} ago"


def iso(moment: dt.datetime | None) -> str:
    """Return a moment for a ``datetime`` attribute, to the second."""
    return "" if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="seconds")


def words(name: str) -> str:
    """Return an identifier as words: ``training_supernet`` as ``Training supernet``."""
    return name.replace("_", " ").capitalize().replace("gcn", "GCN")


def sentence(text: str) -> str:
    """Return a message as a sentence: it begins with a capital and ends with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


FORMATS: dict[str, Any] = {
    function.__name__: function for function in (millions, percent, decimal, whole, duration, ago, iso, words, sentence)
}
"""Filters of the templates."""
