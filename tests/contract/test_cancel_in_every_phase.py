"""A whole search on real networks that is cancelled in every phase, and resumed, and ends with the same tables."""

import threading
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
from app.domain.search_config import from_preset
from app.domain.search_space import SearchSpace
from tests.e2e.conftest import TINY_SEARCH, TINY_SPACE
from worker.networks import TorchNetworks
from worker.pipeline.ports import Report
from worker.step_run import StepRunner

if TYPE_CHECKING:
    from tests.contract.conftest import World


class Interrupting:
    """Networks that cancel their search at the first report of every kind of step, and count all reports."""

    def __init__(self, world: "World", networks: TorchNetworks, search_id: uuid.UUID, *, cancels: bool) -> None:
        self.world, self.networks, self.search_id, self.cancels = world, networks, search_id, cancels
        self.reports: Counter[str] = Counter()
        self.cancelled_in: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.networks, name)

        def with_own_report(*arguments: Any) -> Any:
            *rest, report = arguments
            return call(*rest, self.reporter(report))

        return with_own_report

    def reporter(self, report: Report) -> Report:
        kind = self.kind_at_work()

        def own(progress: float, detail: Mapping[str, Any] | None) -> None:
            self.reports[kind] += 1
            if self.cancels and kind not in self.cancelled_in:
                self.cancelled_in.append(kind)
                self.world.cancel(self.search_id)
                # however short the work is, a heartbeat sees the cancellation during it
                for _ in range(3000):
                    report(progress, detail)
                    threading.Event().wait(0.01)
                raise AssertionError("the cancellation is never seen")
            report(progress, detail)

        return own

    def kind_at_work(self) -> str:
        leased = select(StepRow.kind).where(StepRow.search_id == self.search_id, StepRow.state == "leased")
        with transaction(self.world.engine) as session:
            return session.scalars(leased).one()


def store_search(world: "World") -> uuid.UUID:
    space = SearchSpace.model_validate(TINY_SPACE)
    values = {k: v for k, v in TINY_SEARCH.items() if k not in ("dataset", "search_space")}
    config = from_preset("quick", values | {"num_classes": 10, "seed": 7}).resolved(space)
    with transaction(world.engine) as session:
        search = SearchRow(
            dataset="digits",
            preset="quick",
            search_space=space.model_dump(mode="json"),
            config=config.model_dump(mode="json"),
            num_rounds=config.num_rounds,
            request={},
        )
        session.add(search)
        session.flush()
        session.add(StepRow(search_id=search.id, kind="train_supernet"))
    return search.id


def run_to_the_end(world: "World", directory: Path, *, cancels: bool) -> tuple[Interrupting, list[str], uuid.UUID]:
    """Run a search step by step; resume it whenever it is cancelled. Return how each step ended, too."""
    search_id, endings = store_search(world), []
    torch_networks = TorchNetworks(
        choose_device=lambda: torch.device("cpu"), data_root=None, artifact_url=f"file://{directory}"
    )
    networks = Interrupting(world, torch_networks, search_id, cancels=cancels)
    runner = StepRunner(world.store, networks, lambda _: None, "host:1/2", 0.005, 12, 3)  # type: ignore[arg-type]
    for _ in range(100):
        ending = runner.run_next()
        if ending is None:
            break
        endings.append(ending)
        if ending == "handed back":
            assert world.search_row(search_id).state == "cancelled"
            assert runner.run_next() is None, "a cancelled search gives no work"
            world.resume(search_id)
    return networks, endings, search_id


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


KINDS = ["train_supernet", "evaluate_shard", "fit_gcn", "reevaluate_shard", "fit_space"]


def test_cancelled_in_every_phase_and_resumed(world: "World", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # else a training reports a few times a second
    monkeypatch.setattr("worker.nas.training_loop._PROGRESS_INTERVAL_S", 0.0)
    undisturbed, endings, first = run_to_the_end(world, tmp_path, cancels=False)
    assert set(endings) == {"done"}
    assert world.search_row(first).state == "succeeded"
    # a step looks for a cancellation whenever it reports, so it has to report often
    assert undisturbed.reports["train_supernet"] >= 3 * 11, "every iteration"
    assert undisturbed.reports["fit_gcn"] >= 2 * 40, "every epoch"
    assert undisturbed.reports["fit_space"] >= 40, "every epoch"

    disturbed, endings, second = run_to_the_end(world, tmp_path, cancels=True)
    assert disturbed.cancelled_in == KINDS
    assert endings.count("handed back") == len(KINDS)
    assert world.search_row(second).state == "succeeded"
    assert content(world, second) == content(world, first)
    assert max(step.failures for step in world.steps(second)) == 0
