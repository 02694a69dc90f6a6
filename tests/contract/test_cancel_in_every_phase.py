"""A whole search on real networks that is cancelled in every phase, and resumed, and ends with the same tables."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from sqlalchemy import select

from app.db.engine import transaction
from app.db.models import LookupTableRow, PairRow, SearchRow, SpaceModelRow, StepRow
from app.domain.architecture_export import Export
from app.domain.search_config import from_preset
from app.domain.search_space import SearchSpace
from app.domain.standalone_recipe import Retraining, from_recipe
from tests.e2e.conftest import TINY_SEARCH, TINY_SPACE
from worker.networks import TorchNetworks
from worker.step_run import Ending, Heartbeat, StepRunner
from worker.store import Claim

if TYPE_CHECKING:
    from tests.contract.conftest import World


MAX_SILENCE_S = 5.0
"""What is promised to whoever cancels. Here all work is tiny: whatever is silent for so long would be so for hours."""

LABELS = {"num_standalone": 4, "standalone_epochs": 2}


REPORT = Heartbeat.report


class Watch:
    """Sees every report of every step: how long steps are silent, and cancels at the first report of each phase."""

    def __init__(self, world: "World", monkeypatch: pytest.MonkeyPatch, *, cancels: bool) -> None:
        self.world, self.cancels = world, cancels
        self.reports: Counter[str] = Counter()
        self.cancelled_in: list[str] = []
        self.silent_s: dict[str, float] = {}
        self.heard_s = time.monotonic()
        monkeypatch.setattr(Heartbeat, "report", lambda *arguments: self.report(*arguments))

    def report(self, heartbeat: Heartbeat, progress: float, detail: Mapping[str, Any] | None = None) -> None:
        claim = heartbeat._claim
        phase = phase_of(claim, detail)
        self.reports[phase] += 1
        self.note(phase)
        if self.cancels and phase not in self.cancelled_in:
            self.cancelled_in.append(phase)
            self.world.cancel(uuid.UUID(claim.search.id))
            # however short the work is, a heartbeat sees the cancellation during it
            for _ in range(500):
                REPORT(heartbeat, progress, detail)
                threading.Event().wait(0.01)
            raise AssertionError("the cancellation is never seen")
        REPORT(heartbeat, progress, detail)

    def note(self, phase: str) -> None:
        """Hear from a step, at its reports and at its end."""
        now_s = time.monotonic()
        self.silent_s[phase] = max(self.silent_s.get(phase, 0.0), now_s - self.heard_s)
        self.heard_s = now_s


def phase_of(claim: Claim, detail: Mapping[str, Any] | None) -> str:
    if "loading_images" in (detail or {}):
        return "loading"
    return (
        "retraining" if claim.step.payload.get("search_id") and "retraining" in claim.step.payload else claim.step.kind
    )


class Watched(StepRunner):
    """Tells its watch of every step's beginning and end."""

    watch: Watch

    def _run_claimed(self, claim: Claim) -> Ending:
        self.watch.heard_s = time.monotonic()
        ending = super()._run_claimed(claim)
        self.watch.note(phase_of(claim, None))
        return ending


def store_search(world: "World") -> uuid.UUID:
    space = SearchSpace.model_validate(TINY_SPACE)
    values = {k: v for k, v in TINY_SEARCH.items() if k not in ("dataset", "search_space")}
    config = from_preset("quick", values | LABELS | {"num_classes": 10, "seed": 7}).resolved(space)
    return store(world, "train_supernet", {}, config=config.model_dump(mode="json"), num_rounds=config.num_rounds)


def store(world: "World", step_kind: str, payload: Mapping[str, Any], **values: Any) -> uuid.UUID:
    """Store a search, or a job with its payload, and its first step."""
    with transaction(world.engine) as session:
        space = SearchSpace.model_validate(TINY_SPACE).model_dump(mode="json")
        row = SearchRow(**{"dataset": "digits", "preset": "quick", "search_space": space, "request": {}, **values})
        session.add(row)
        session.flush()
        session.add(StepRow(search_id=row.id, kind=step_kind, payload=dict(payload)))
        return row.id


def store_jobs(world: "World", watch: Watch, search_id: uuid.UUID) -> list[uuid.UUID]:
    """A retraining and an export of the architecture that a search found, and the measurement of a device."""
    search = world.search_row(search_id)
    retraining = Retraining(
        code=search.final_code,
        recipe_name="small",
        network="proxy",
        from_supernet=True,
        seed=1,
        recipe=from_recipe("small", {"epochs": 2, "batch_size": 32, "augmentation": "none"}),
    )
    # torch's exporter, in a process of its own, takes ten seconds: once is enough
    export = Export(code=search.final_code, format="safetensors" if watch.cancels else "onnx", weights="supernet")
    payloads: dict[tuple[str, str], dict[str, Any]] = {
        ("retraining", "train_standalone"): {"retraining": retraining.model_dump(mode="json")},
        ("export", "export"): {"export": export.model_dump(mode="json")},
        ("measurement", "measure_device"): {"measurement": {"name": "this machine", "owner": None}},
    }
    return [
        store(
            world,
            step_kind,
            {**payload, "search_id": str(search_id)},
            kind=kind,
            origin_id=None if kind == "measurement" else search_id,
            config=search.config,
            num_rounds=0,
        )
        for (kind, step_kind), payload in payloads.items()
    ]


def run_to_the_end(world: "World", watch: Watch, directory: Path) -> tuple[list[str], uuid.UUID, list[uuid.UUID]]:
    """Run a search and jobs about it step by step; resume whatever is cancelled. Return how each step ended, too."""
    networks = TorchNetworks(
        choose_device=lambda: torch.device("cpu"), data_root=None, artifact_url=f"file://{directory}"
    )
    runner = Watched(world.store, networks, lambda _: None, "host:1/2", 0.005, 12, 3)
    object.__setattr__(runner, "watch", watch)
    search_id = store_search(world)
    endings = run(world, runner, [search_id])
    job_ids = store_jobs(world, watch, search_id)
    return endings + run(world, runner, job_ids), search_id, job_ids


def run(world: "World", runner: StepRunner, search_ids: list[uuid.UUID]) -> list[str]:
    endings: list[str] = []
    for _ in range(100):
        ending = runner.run_next()
        if ending is None:
            break
        endings.append(ending)
        if ending == "handed back":
            (cancelled,) = [one for one in search_ids if world.search_row(one).state == "cancelled"]
            world.resume(cancelled)
    return endings


def content(world: "World", search_id: uuid.UUID) -> tuple[list[Any], list[str], bytes]:
    with transaction(world.engine) as session:
        pairs = session.execute(
            select(PairRow.round_index, PairRow.source, PairRow.code, PairRow.accuracy, PairRow.held_out)
            .where(PairRow.search_id == search_id)
            .order_by(PairRow.round_index, PairRow.source, PairRow.code)
        ).all()
        digests = session.scalars(
            select(LookupTableRow.digest)
            .where(LookupTableRow.search_id == search_id)
            .order_by(LookupTableRow.round_index)
        ).all()
        model = session.scalars(select(SpaceModelRow.model).where(SpaceModelRow.search_id == search_id)).one()
        return [tuple(pair) for pair in pairs], list(digests), bytes(model)


PHASES = [
    *("loading", "train_supernet", "evaluate_shard", "fit_gcn", "reevaluate_shard", "train_standalone"),
    *("correct_predictions", "fit_space", "retraining", "export", "measure_device"),
]


def test_cancelled_in_every_phase_and_resumed(world: "World", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # else a training reports a few times a second
    monkeypatch.setattr("worker.nas.training_loop._PROGRESS_INTERVAL_S", 0.0)
    # how exact the latencies are is not the question here
    monkeypatch.setattr("worker.nas.latency_measurement._NUM_TURNS", 5)
    undisturbed = Watch(world, monkeypatch, cancels=False)
    endings, first, jobs = run_to_the_end(world, undisturbed, tmp_path)
    assert set(endings) == {"done"}
    assert {world.search_row(one).state for one in (first, *jobs)} == {"succeeded"}
    assert set(undisturbed.reports) == set(PHASES)
    # a step looks for a cancellation whenever it reports, so it has to report often
    assert undisturbed.reports["train_supernet"] >= 3 * 11, "every iteration"
    assert undisturbed.reports["fit_gcn"] >= 2 * 40, "every epoch"
    assert undisturbed.reports["fit_space"] >= 40, "every epoch"
    assert undisturbed.reports["train_standalone"] >= 4 * 2 * 11, "every iteration"
    assert undisturbed.reports["measure_device"] >= 4 * 6 + 20, "every model"
    assert set(undisturbed.silent_s) == {*PHASES, "advance"}
    assert {phase: s for phase, s in undisturbed.silent_s.items() if s > MAX_SILENCE_S} == {}

    disturbed = Watch(world, monkeypatch, cancels=True)
    endings, second, jobs = run_to_the_end(world, disturbed, tmp_path)
    assert sorted(disturbed.cancelled_in) == sorted(PHASES)
    assert endings.count("handed back") == len(PHASES)
    assert {world.search_row(one).state for one in (second, *jobs)} == {"succeeded"}
    assert content(world, second) == content(world, first)
    assert max(step.failures for one in (second, *jobs) for step in world.steps(one)) == 0
