"""Logs are one JSON object per line, with the request id."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from asgi_correlation_id import correlation_id

from app.logging import configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_both_kinds_of_loggers_share_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    token = correlation_id.set("r1")
    try:
        structlog.get_logger("a").info("hello", number=1)
        logging.getLogger("uvicorn.error").warning("plain %s", "text")
        logging.getLogger("b").debug("not shown")
    finally:
        correlation_id.reset(token)
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["event"], first["number"], first["level"], first["request_id"]) == ("hello", 1, "info", "r1")
    assert (second["event"], second["logger"], second["request_id"]) == ("plain text", "uvicorn.error", "r1")


def test_a_traceback_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    password = "hunter2"
    try:
        raise RuntimeError(len(password))
    except RuntimeError:
        structlog.get_logger("a").exception("failed")
    line = capsys.readouterr().out
    assert "RuntimeError: 7" in json.loads(line)["exception"]
    assert "hunter2" not in line.replace('password = "hunter2"', "")


def test_people_get_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "console")
    structlog.get_logger("a").info("hello")
    assert "hello" in capsys.readouterr().out
