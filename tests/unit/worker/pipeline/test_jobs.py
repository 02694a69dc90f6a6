"""Jobs about one architecture: what they ask of the networks, and what they give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.architecture_export import Export
from app.domain.device_measurement import DeviceMeasurement
from app.domain.latency import LatencyTable
from app.domain.search_config import from_preset
from app.domain.search_space import SearchSpace, preset
from app.domain.standalone_recipe import Retraining, from_recipe
from worker.pipeline.ports import MeasuredDevice, Report, Retrained, Search, Step
from worker.pipeline.search import run_step

SPACE = preset("nas-bench-macro")
JOB = Search("the-job", "digits", SPACE, from_preset("quick", {"num_sampled": 40}).resolved(SPACE))
RETRAINING = Retraining(
    code="01201201",
    recipe_name="small",
    network="proxy",
    from_supernet=True,
    seed=3,
    recipe=from_recipe("small", {"epochs": 2}, from_supernet=True),
)


@dataclass
class NotingNetworks:
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        self.asked.append((search.id, job_id, retraining))
        report(1.0, {"epoch": 1})
        return Retrained(0.75, "the-job/standalone", {"loss_curve": [1.0]})

    def export(self, search: Search, job_id: str, export: Export, report: Report) -> Mapping[str, Any]:
        self.asked.append((search.id, job_id, export))
        return {"accuracy": 0.5}

    def measure_device(self, space: SearchSpace, wanted: DeviceMeasurement, report: Report) -> MeasuredDevice:
        self.asked.append((space, wanted))
        return MeasuredDevice(wanted, LatencyTable(1.0, ((1.0,),)), {"mean_relative_error": 0.1})


def run(kind: Any, payload: Mapping[str, Any]) -> tuple[Any, NotingNetworks]:
    networks = NotingNetworks()
    step = Step(1, kind, None, 0, payload, 1)
    outcome = run_step(JOB, step, networks, None, lambda done, detail: None, shard_size=1)  # type: ignore[arg-type]
    return outcome, networks


def test_a_retraining_is_about_its_search_and_kept_with_its_job() -> None:
    payload = {"search_id": "the-search", "retraining": RETRAINING.model_dump(mode="json")}
    outcome, networks = run("train_standalone", payload)
    assert networks.asked == [("the-search", "the-job", RETRAINING)]
    assert outcome.search_done
    assert (outcome.standalone.search_id, outcome.standalone.accuracy) == ("the-search", 0.75)
    assert (outcome.standalone.retraining, outcome.standalone.artifact) == (RETRAINING, "the-job/standalone")
    assert outcome.result == {"standalone_accuracy": 0.75, "loss_curve": [1.0]}
    assert (outcome.next_steps, outcome.pairs) == ((), ())


def test_an_export_is_about_its_search_and_kept_with_its_job() -> None:
    export = Export(code="01201201", format="onnx", weights="supernet")
    outcome, networks = run("export", {"search_id": "the-search", "export": export.model_dump(mode="json")})
    assert networks.asked == [("the-search", "the-job", export)]
    assert outcome.search_done
    assert outcome.standalone is None
    assert outcome.result == {"accuracy": 0.5}


def test_a_measurement_is_of_the_jobs_space() -> None:
    wanted = DeviceMeasurement(name="pixel", owner="alice", threads=2)
    outcome, networks = run("measure_device", {"measurement": wanted.model_dump(mode="json")})
    assert networks.asked == [(SPACE, wanted)]
    assert outcome.search_done
    assert outcome.device.measurement == wanted
    assert outcome.result == {"mean_relative_error": 0.1}
