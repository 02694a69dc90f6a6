"""Running one step: heartbeats, every way to end, a database that is away, and reasons that people can read."""

import contextlib
import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from app.db.steps import Signal
from app.domain.rounds import first_subspace
from app.domain.search_config import from_preset
from app.domain.search_space import Architecture, preset
from app.domain.steps import PairSource
from app.domain.subspace import Subspace
from worker import step_run
from worker.pipeline.ports import (
    LeaseLostError,
    Outcome,
    Pair,
    Report,
    Search,
    Step,
    StepInterrupted,
)
from worker.step_run import Heartbeat, PatientReader, StepRunner, patiently, readable_reason
from worker.store import Claim

SPACE = preset("nas-bench-macro")
SEARCH = Search("search", "digits", SPACE, from_preset("quick", {"num_sampled": 20}).resolved(SPACE))
STEP = Step(7, "evaluate_shard", 2, 0, {"codes": ["00000000", "00000001"]}, 3)
CLAIM = Claim(STEP, SEARCH)


def away() -> OperationalError:
    return OperationalError("select 1", None, Exception("the database system is starting up"))


@dataclass
class ScriptedStore:
    """A store that answers as the test says, and notes what it was asked.

    Attributes:
        signals: Answers to heartbeats; the last one is given again and again.
        num_away: How many calls of each kind fail first, because the database is away.
    """

    claimed: Claim | None = CLAIM
    signals: list[Signal | Exception] = field(default_factory=lambda: ["go"])
    num_away: dict[str, int] = field(default_factory=dict)
    complete_error: Exception | None = None
    check_while_storing: Callable[[Callable[[], None]], None] = lambda check: None
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    beats: list[tuple[float, Any]] = field(default_factory=list)
    beaten: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def _perhaps_away(self, name: str) -> None:
        if self.num_away.get(name, 0) > 0:
            self.num_away[name] -= 1
            raise away()

    def claim_fairest(self, worker: str) -> Claim | None:
        self.calls.append(("claim_fairest", worker))
        return self.claimed

    def heartbeat(self, claim: Claim, progress: float, detail: Mapping[str, Any] | None) -> Signal:
        self.beats.append((progress, detail))
        signal = self.signals.pop(0) if len(self.signals) > 1 else self.signals[0]
        try:
            if isinstance(signal, Exception):
                raise signal
            return signal
        finally:
            self.beaten.release()

    def complete(self, claim: Claim, outcome: Outcome, check: Callable[[], None]) -> list[int]:
        self._perhaps_away("complete")
        self.check_while_storing(check)
        if self.complete_error is not None:
            raise self.complete_error
        self.calls.append(("complete", [pair.code for pair in outcome.pairs]))
        return [11, 12]

    def hand_back(self, claim: Claim) -> bool:
        self._perhaps_away("hand_back")
        self.calls.append(("hand_back",))
        return True

    def put_off(self, claim: Claim, reason: str, max_attempts: int) -> None:
        self._perhaps_away("put_off")
        self.calls.append(("put_off", reason, max_attempts))

    def fail(self, claim: Claim, reason: str) -> None:
        self._perhaps_away("fail")
        self.calls.append(("fail", reason))

    def subspace(self, search: Search, round_index: int) -> Subspace:
        self._perhaps_away("subspace")
        return first_subspace(search.space, search.config)

    def pairs(self, search: Search, round_index: int, source: PairSource) -> list[Pair]:
        self._perhaps_away("pairs")
        return [Pair("00000000", 0.5)]

    def predictions(self, search: Search, round_index: int, subspace_indices: list[int]) -> dict[int, float]:
        self._perhaps_away("predictions")
        return dict.fromkeys(subspace_indices, 0.5)


Work = Callable[[Report], None]


@dataclass
class WorkingNetworks:
    """Networks that do what the test says while they evaluate."""

    work: Work = lambda report: None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not needed here")

    def evaluate(self, search: Search, architectures: Sequence[Architecture], report: Report) -> list[float]:
        self.work(report)
        return [0.5] * len(architectures)


class Run:
    """One run of a step, and what came of it."""

    def __init__(self, store: ScriptedStore, work: Work = lambda report: None) -> None:
        self.store, self.woken = store, []  # type: ignore[var-annotated]
        runner = StepRunner(store, WorkingNetworks(work), self.woken.extend, "host:1/2", 0.001, 8, 5)  # type: ignore[arg-type]
        self.ending = runner.run_next()

    @property
    def after_claim(self) -> list[tuple[Any, ...]]:
        return self.store.calls[1:]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_run, "_RETRY_S", 0.001)


def until_interrupted(report: Report) -> None:
    """Work that would go on for ever."""
    stop = threading.Event()
    while not stop.wait(0.001):
        report(0.5, {"epoch": 1})


def fails(error: Exception) -> Work:
    def work(report: Report) -> None:
        raise error

    return work


class TestEndings:
    def test_nothing_to_do(self) -> None:
        run = Run(ScriptedStore(claimed=None))
        assert (run.ending, run.woken, run.after_claim) == (None, [], [])

    def test_done(self) -> None:
        run = Run(ScriptedStore())
        assert run.store.calls[0] == ("claim_fairest", "host:1/2")
        assert (run.ending, run.woken) == ("done", [11, 12])
        assert run.after_claim == [("complete", ["00000000", "00000001"])]

    @pytest.mark.parametrize("signal", ["cancel", "release"])
    def test_handed_back(self, signal: Signal) -> None:
        run = Run(ScriptedStore(signals=["go", signal]), until_interrupted)
        assert (run.ending, run.woken, run.after_claim) == ("handed back", [], [("hand_back",)])

    def test_fenced_off_while_working(self) -> None:
        run = Run(ScriptedStore(signals=["lost"]), until_interrupted)
        assert (run.ending, run.woken, run.after_claim) == ("fenced off", [], [])

    def test_fenced_off_while_storing(self) -> None:
        run = Run(ScriptedStore(complete_error=LeaseLostError("attempt 3 was fenced off")))
        assert (run.ending, run.woken, run.after_claim) == ("fenced off", [], [])

    def test_cancelled_for_good_while_storing(self) -> None:
        run = Run(ScriptedStore(complete_error=StepInterrupted("cancel")))
        assert (run.ending, run.woken, run.after_claim) == ("handed back", [], [("hand_back",)])

    def test_failed(self) -> None:
        run = Run(ScriptedStore(), fails(ValueError("cat/7.jpg is no image; remove it")))
        reason = "evaluate_shard of round 2: cat/7.jpg is no image; remove it"
        assert (run.ending, run.woken, run.after_claim) == ("failed", [], [("fail", reason)])

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ECONNREFUSED, errno.EHOSTUNREACH])
    def test_put_off_while_storage_is_full_or_away(self, number: int) -> None:
        run = Run(ScriptedStore(num_away={"put_off": 2}), fails(OSError(number, "cannot write", "/artifacts/x")))
        ((name, reason, max_attempts),) = run.after_claim
        assert (run.ending, run.woken, name, max_attempts) == ("put off", [], "put_off", 5)
        assert "cannot write: '/artifacts/x'" in reason

    def test_any_other_error_of_the_system_is_for_people(self) -> None:
        run = Run(ScriptedStore(), fails(PermissionError(errno.EACCES, "not allowed", "/artifacts/x")))
        assert (run.ending, run.after_claim[0][0]) == ("failed", "fail")

    def test_failed_while_storing(self) -> None:
        run = Run(ScriptedStore(complete_error=RuntimeError("boom")))
        ((name, reason),) = run.after_claim
        assert (run.ending, name) == ("failed", "fail")
        assert "RuntimeError in complete: boom" in reason

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_whoever_stops_the_process_is_not_held_up(self, error: type[BaseException]) -> None:
        """The lease runs out, and another worker takes the step."""
        store = ScriptedStore()

        def stop(report: Report) -> None:
            raise error

        with pytest.raises(error):
            Run(store, stop)
        assert [name for name, *_ in store.calls] == ["claim_fairest"]
        assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]


class TestHeartbeat:
    def test_writes_down_what_was_reported_last(self) -> None:
        store = ScriptedStore()
        with Heartbeat(store, CLAIM, 0.001) as heartbeat:  # type: ignore[arg-type]
            assert store.beaten.acquire(timeout=30)
            heartbeat.report(0.25, {"epoch": 1})
            before = len(store.beats)
            for _ in range(2):
                assert store.beaten.acquire(timeout=30)
            while len(store.beats) < before + 2:
                assert store.beaten.acquire(timeout=30)
        assert store.beats[0] == (0.0, None)
        assert store.beats[-1] == (0.25, {"epoch": 1})

    @pytest.mark.parametrize(("reported", "stored"), [(-0.5, 0.0), (1.5, 1.0)])
    def test_progress_stays_in_its_range(self, reported: float, stored: float) -> None:
        store = ScriptedStore()
        heartbeat = Heartbeat(store, CLAIM, 0.001)  # type: ignore[arg-type]
        heartbeat.report(reported)
        with heartbeat:
            assert store.beaten.acquire(timeout=30)
        assert store.beats[0] == (stored, None)

    def test_ends_with_its_context(self) -> None:
        with Heartbeat(ScriptedStore(), CLAIM, 60.0):  # type: ignore[arg-type]
            assert "heartbeat" in {thread.name for thread in threading.enumerate()}
        assert "heartbeat" not in {thread.name for thread in threading.enumerate()}

    def test_goes_on_when_the_database_is_away_for_a_moment(self) -> None:
        store = ScriptedStore(signals=[away(), away(), "cancel"])
        run = Run(store, until_interrupted)
        assert run.ending == "handed back"
        assert len(store.beats) >= 3

    def test_goes_on_after_a_cancellation_until_the_step_is_handed_back(self) -> None:
        """A step that stops late, e.g. inside of a download, must not look like a dead worker."""
        store = ScriptedStore(signals=["cancel"])

        def stops_late(report: Report) -> None:
            for _ in range(5):
                assert store.beaten.acquire(timeout=30)
            until_interrupted(report)

        assert Run(store, stops_late).ending == "handed back"
        assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat"]

    def test_a_step_that_hangs_is_no_longer_renewed_until_it_reports(self) -> None:
        store = ScriptedStore()
        with capture_logs() as lines, Heartbeat(store, CLAIM, 0.001, 0.05) as heartbeat:  # type: ignore[arg-type]
            while not lines:
                threading.Event().wait(0.001)
            before = len(store.beats)
            threading.Event().wait(0.05)
            assert len(store.beats) == before
            heartbeat.report(0.75)
            while len(store.beats) == before:
                threading.Event().wait(0.001)
        assert lines[0]["event"] == "step hangs, its lease is not renewed"
        assert store.beats[-1] == (0.75, None)

    def test_a_cancellation_is_not_forgotten(self) -> None:
        """One that was withdrawn, or a heartbeat that sees a resumed search: the step is handed back all the same."""
        store = ScriptedStore(signals=["cancel", "go"])

        def stops_late(report: Report) -> None:
            for _ in range(3):
                assert store.beaten.acquire(timeout=30)
            report(0.5, None)

        assert Run(store, stops_late).ending == "handed back"

    def test_a_cancellation_stops_the_storing(self) -> None:
        run = Run(
            ScriptedStore(signals=["release"], check_while_storing=lambda check: until_interrupted(lambda *_: check()))
        )
        assert (run.ending, run.after_claim) == ("handed back", [("hand_back",)])

    def test_an_error_of_its_own_ends_the_step_instead_of_the_lease(self) -> None:
        run = Run(ScriptedStore(signals=[TypeError("float32 is not JSON serializable")]), until_interrupted)
        ((name, reason),) = run.after_claim
        assert (run.ending, name) == ("failed", "fail")
        assert "float32 is not JSON serializable" in reason


class TestDatabaseAway:
    def test_a_result_waits(self) -> None:
        run = Run(ScriptedStore(num_away={"complete": 3}))
        assert (run.ending, run.woken) == ("done", [11, 12])

    def test_a_result_waits_also_when_the_heartbeat_sees_no_lease(self) -> None:
        """A commit whose answer was lost: the step is done, which to the heartbeat looks like a lease that is lost."""
        run = Run(ScriptedStore(num_away={"complete": 5}, signals=["lost"]))
        assert (run.ending, run.woken) == ("done", [11, 12])

    def test_a_failure_waits(self) -> None:
        run = Run(ScriptedStore(num_away={"fail": 3}), fails(ValueError("no")))
        assert run.after_claim == [("fail", "evaluate_shard of round 2: no")]

    def test_a_step_is_handed_back_later(self) -> None:
        run = Run(ScriptedStore(num_away={"hand_back": 3}, signals=["release"]), until_interrupted)
        assert run.after_claim == [("hand_back",)]

    def test_reads_wait(self) -> None:
        store = ScriptedStore(num_away={"subspace": 2, "pairs": 2, "predictions": 2})
        reader = PatientReader(store, Heartbeat(store, CLAIM, 60.0))  # type: ignore[arg-type]
        assert reader.subspace(SEARCH, 0) == first_subspace(SPACE, SEARCH.config)
        assert reader.pairs(SEARCH, 0, "sampled") == [Pair("00000000", 0.5)]
        assert reader.predictions(SEARCH, 0, [3]) == {3: 0.5}

    def test_reads_stop_where_the_step_shall_stop(self) -> None:
        def check() -> None:
            raise LeaseLostError("another worker has it")

        def call() -> None:
            raise away()

        with pytest.raises(LeaseLostError):
            patiently(call, check)

    def test_patience_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(step_run, "STORE_PATIENCE_S", -1.0)
        run = Run(ScriptedStore(num_away={"complete": 1}))
        ((name, reason),) = run.after_claim
        assert (run.ending, name) == ("failed", "fail")
        assert "the database system is starting up" in reason


class TestReasons:
    def test_a_users_error_is_its_message(self) -> None:
        claim = Claim(Step(1, "train_supernet", None, 0, {}, 1), SEARCH)
        assert readable_reason(claim, ValueError("give another data set")) == "train_supernet: give another data set"

    def test_any_other_says_what_and_where(self) -> None:
        def evaluate_something() -> None:
            raise MemoryError("cannot allocate 12 GB")

        with pytest.raises(MemoryError) as caught:
            evaluate_something()
        assert readable_reason(CLAIM, caught.value) == (
            "evaluate_shard of round 2: MemoryError in evaluate_something: cannot allocate 12 GB; "
            "see the worker's log, then resume the search"
        )

    @pytest.mark.parametrize("name", ["caf\udce9.jpg", "a\0b.jpg"])
    def test_file_names_that_postgresql_would_refuse(self, name: str) -> None:
        reason = readable_reason(CLAIM, ValueError(f"{name} is no image"))
        assert reason.endswith(".jpg is no image")
        assert "\0" not in reason
        reason.encode()

    def test_very_long_messages_keep_both_ends(self) -> None:
        reason = readable_reason(CLAIM, ValueError("begin" + "x" * 10**6 + "end"))
        assert len(reason) < 2100
        assert reason.startswith("evaluate_shard of round 2: begin")
        assert reason.endswith("end")


class TestLogLines:
    def test_name_search_round_step_and_request(self) -> None:
        def work(report: Report) -> None:
            structlog.get_logger("worker.nas").info("deep inside")

        claim = Claim(STEP, SEARCH, "r" * 32)
        with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
            Run(ScriptedStore(claimed=claim), work)
            structlog.get_logger("worker").info("after it")
        assert [line["event"] for line in lines] == ["step begins", "deep inside", "step ends", "after it"]
        named = {"search_id": "search", "round_index": 2, "step_id": 7, "attempt": 3, "request_id": "r" * 32}
        for line in lines[:3]:
            assert {name: line.get(name) for name in named} == named
        assert "search_id" not in lines[3]

    def test_spans_name_the_same(self) -> None:
        made = []

        def span(name: str, attributes: Mapping[str, str | int]) -> Any:
            made.append((name, dict(attributes)))
            return contextlib.nullcontext()

        runner = StepRunner(ScriptedStore(), WorkingNetworks(), [].extend, "host:1/2", 0.001, 8, 5, span)  # type: ignore[arg-type]
        assert runner.run_next() == "done"
        assert [name for name, _ in made] == ["evaluate_shard"]
        assert made[0][1] == {
            "nasatlas.search_id": "search",
            "nasatlas.round_index": 2,
            "nasatlas.step_id": 7,
            "nasatlas.attempt": 3,
            "nasatlas.shard_index": 0,
        }
