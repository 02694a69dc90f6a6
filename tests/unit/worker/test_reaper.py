"""The reaper's schedule: at its pace, with nothing piling up, on a queue that no training blocks, and without torch."""

import os
import subprocess
import sys

import pytest

from app.settings import get_settings


def test_its_pace_is_that_of_the_settings(broker_nobody_asks: pytest.MonkeyPatch) -> None:
    from worker import reaper

    broker_nobody_asks.setenv("NASATLAS_REAP_S", "1.5")
    get_settings.cache_clear()
    schedule = reaper.make_reaper_app().conf.beat_schedule
    assert {entry["task"]: entry["schedule"] for entry in schedule.values()} == {
        reaper.REAP: 1.5,
        reaper.TIDY: reaper.TIDY_INTERVAL_S,
        reaper.DELIVER: reaper.DELIVER_INTERVAL_S,
    }


def test_nothing_piles_up_while_it_is_away(broker_nobody_asks: pytest.MonkeyPatch) -> None:
    """A message that was not taken before the next one comes is outdated: hours of them would follow a restart."""
    from worker import reaper

    for entry in reaper.make_reaper_app().conf.beat_schedule.values():
        assert entry["options"]["expires"] <= entry["schedule"]


def test_every_task_of_its_schedule_exists_and_stays_out_of_the_workers_queue(
    broker_nobody_asks: pytest.MonkeyPatch,
) -> None:
    from worker import reaper

    scheduled = {entry["task"] for entry in reaper.app.conf.beat_schedule.values()}
    assert scheduled <= set(reaper.app.tasks)
    for task in scheduled:
        assert reaper.app.amqp.router.route({}, task)["queue"].name == "reap"
    assert reaper.app.conf.task_default_queue != "reap"


def test_it_needs_no_torch() -> None:
    """Its process is small and always there."""
    code = "import sys; import worker.reaper; sys.exit('torch is imported' if 'torch' in sys.modules else 0)"
    environment = {**os.environ, "NASATLAS_BROKER_URL": "redis://127.0.0.1:1/0"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
