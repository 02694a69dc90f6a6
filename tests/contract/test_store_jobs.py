"""Jobs about one architecture of a search, stored: a retraining's accuracy, an export's end."""

import uuid
from typing import TYPE_CHECKING

import pytest

from app.db import standalone as standalone_db
from app.db.engine import transaction
from app.domain.standalone_recipe import Retraining, from_recipe
from worker.pipeline.ports import LeaseLostError, Outcome, StandaloneAccuracy
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
