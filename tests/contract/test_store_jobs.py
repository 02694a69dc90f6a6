"""Architectures trained by themselves, stored: by jobs about a search, and by a search for its true labels."""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from app.db import standalone as standalone_db
from app.db.engine import transaction
from app.db.models import LookupTableRow
from app.domain.search_config import from_preset
from app.domain.standalone_recipe import Retraining, from_recipe, label_retraining
from worker.pipeline.ports import (
    FittedTable,
    LeaseLostError,
    NewStep,
    Outcome,
    StandaloneAccuracy,
    StandaloneLabel,
)
from worker.store import Claim

if TYPE_CHECKING:
    from tests.contract.conftest import World


class TestJobs:
    @pytest.fixture
    def job(self, world: "World") -> tuple[uuid.UUID, Claim, Outcome]:
        """A search, the claim of a retraining of one of its architectures, and its outcome."""
        search_id = world.search("succeeded")
        job_id = world.search(kind="retraining", origin_id=search_id, num_rounds=0)
        claim = world.claimed(world.step(job_id, "train_standalone", round_index=None))
        retraining = Retraining(
            code="01201201",
            recipe_name="small",
            network="proxy",
            from_supernet=False,
            seed=5,
            recipe=from_recipe("small", {"epochs": 3}),
        )
        standalone = StandaloneAccuracy(str(search_id), retraining, 0.75, f"{job_id}/standalone")
        return search_id, claim, Outcome(standalone=standalone, search_done=True, result={"loss_curve": [1.0]})

    def test_a_retraining_gives_its_search_an_accuracy(
        self, world: "World", job: tuple[uuid.UUID, Claim, Outcome]
    ) -> None:
        search_id, claim, outcome = job
        assert world.store.complete(claim, outcome) == []
        with transaction(world.engine) as session:
            (row,) = standalone_db.of_search(session, search_id)
        assert (str(row.job_id), row.code, row.accuracy) == (claim.search.id, "01201201", 0.75)
        assert (row.recipe, row.network, row.from_supernet, row.seed, row.epochs) == ("small", "proxy", False, 5, 3)
        assert row.artifact == f"{claim.search.id}/standalone"
        finished = world.search_row(uuid.UUID(claim.search.id))
        assert (finished.state, finished.final_code, finished.final_accuracy) == ("succeeded", "01201201", 0.75)

    def test_a_completion_whose_answer_was_lost_can_be_repeated(
        self, world: "World", job: tuple[uuid.UUID, Claim, Outcome]
    ) -> None:
        search_id, claim, outcome = job
        world.store.complete(claim, outcome)
        world.store.complete(claim, outcome)
        with transaction(world.engine) as session:
            assert len(standalone_db.of_search(session, search_id)) == 1

    def test_a_stale_worker_gives_nothing(self, world: "World", job: tuple[uuid.UUID, Claim, Outcome]) -> None:
        search_id, claim, outcome = job
        world.let_lease_run_out(claim.step.id)
        world.reap()
        with pytest.raises(LeaseLostError):
            world.store.complete(claim, outcome)
        with transaction(world.engine) as session:
            assert standalone_db.of_search(session, search_id) == []

    def test_an_export_ends_without_an_architecture(self, world: "World") -> None:
        job_id = world.search(kind="export", origin_id=world.search("succeeded"), num_rounds=0)
        claim = world.claimed(world.step(job_id, "export", round_index=None))
        world.store.complete(claim, Outcome(search_done=True, result={"accuracy": 0.5}))
        finished = world.search_row(job_id)
        assert (finished.state, finished.final_code) == ("succeeded", None)


class TestLabels:
    def finished(
        self,
        world: "World",
        search_id: uuid.UUID,
        code: str,
        accuracy: float,
        following: NewStep | None = None,
        **values: Any,
    ) -> Claim:
        """Train a label as a worker does, and store it."""
        retraining = label_retraining(from_preset("quick", {}), code)
        payload = {"retraining": retraining.model_dump(mode="json"), "predictions": [0.1 + 0.2, -1.5]}
        claim = world.claimed(world.step(search_id, "train_standalone", payload=payload, **values))
        standalone = StandaloneAccuracy(
            str(search_id), retraining, accuracy, f"{search_id}/standalone-{code}/standalone"
        )
        world.store.complete(
            claim,
            Outcome(standalone=standalone, when_stage_done=following, result={"standalone_accuracy": accuracy}),
        )
        return claim

    def test_are_read_back_by_round_and_code(self, world: "World") -> None:
        search_id, other_id = world.search(), world.search()
        claim = self.finished(world, search_id, "2" * 8, 0.1 + 0.6, shard_index=0)
        self.finished(world, search_id, "1" * 8, 0.25, shard_index=1)
        self.finished(world, search_id, "0" * 8, 0.5, round_index=1)
        self.finished(world, other_id, "0" * 8, 0.75)
        world.step(search_id, "train_standalone", shard_index=2)
        assert world.store.labels(claim.search) == [
            StandaloneLabel(0, "1" * 8, 0.25, (0.1 + 0.2, -1.5)),
            StandaloneLabel(0, "2" * 8, 0.1 + 0.6, (0.1 + 0.2, -1.5)),
            StandaloneLabel(1, "0" * 8, 0.5, (0.1 + 0.2, -1.5)),
        ]

    def test_belong_to_the_search_as_any_stand_alone_accuracy(self, world: "World") -> None:
        search_id = world.search()
        self.finished(world, search_id, "0" * 8, 0.5)
        with transaction(world.engine) as session:
            (row,) = standalone_db.of_search(session, search_id)
        assert (row.job_id, row.accuracy, row.artifact) == (
            search_id,
            0.5,
            f"{search_id}/standalone-00000000/standalone",
        )
        assert world.search_row(search_id).state == "running"

    def test_the_last_one_makes_the_correction_ready(self, world: "World") -> None:
        search_id = world.search()
        world.step(search_id, "train_standalone", shard_index=1)
        self.finished(world, search_id, "0" * 8, 0.5, NewStep("correct_predictions", 0))
        assert "correct_predictions" not in {step.kind for step in world.steps(search_id)}
        (waiting,) = [step for step in world.steps(search_id) if step.state == "ready"]
        claim = world.claimed(waiting.id)
        world.store.complete(claim, Outcome(when_stage_done=NewStep("correct_predictions", 0)))
        assert [step.kind for step in world.steps(search_id) if step.state == "ready"] == ["correct_predictions"]

    def test_a_table_is_read_back_and_replaced(self, world: "World", fitted_outcome: Callable[..., Outcome]) -> None:
        search_id = world.search()
        claim = world.claimed(world.step(search_id, "fit_gcn"))
        world.store.complete(claim, fitted_outcome(seed=1))
        read = world.store.table(claim.search, 0)
        assert read.digest() == world.table(1).digest()
        assert world.store.fit_report(claim.search, 0) == {"final_loss": 0.1}
        corrected = FittedTable(world.table(2), 0.5, {"final_loss": 0.1, "standalone": {"tau": None}})
        world.store.complete(world.claimed(world.step(search_id, "correct_predictions")), Outcome(fitted=corrected))
        assert world.store.table(claim.search, 0).digest() == world.table(2).digest()
        assert world.store.fit_report(claim.search, 0)["standalone"] == {"tau": None}
        assert world.count(LookupTableRow) == 1
