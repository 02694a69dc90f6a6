"""Jobs beside searches, each a single step: an architecture trained by itself or exported, a device measured."""

import dataclasses

from app.domain.architecture_export import Export
from app.domain.device_measurement import DeviceMeasurement
from app.domain.standalone_recipe import Retraining
from worker.pipeline.ports import Networks, Outcome, Report, Search, StandaloneAccuracy, Step


def run_job(job: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Do the step of a job.

    Raises:
        StepInterrupted: If ``report`` says so.
        ValueError: If it cannot be done, with a message for its user.
    """
    match step.kind:
        case "train_standalone":
            return train_standalone(job, step, networks, report)
        case "export":
            return export(job, step, networks, report)
        case "measure_device":
            return measure_device(job, step, networks, report)
    raise AssertionError(f"a step {step.kind} belongs to a round")


def train_standalone(job: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Train an architecture by itself, for its stand-alone accuracy z*."""
    search_id = str(step.payload["search_id"])
    retraining = Retraining.model_validate(step.payload["retraining"])
    retrained = networks.retrain(dataclasses.replace(job, id=search_id), job.id, retraining, report)
    return Outcome(
        standalone=StandaloneAccuracy(search_id, retraining, retrained.accuracy, retrained.artifact),
        search_done=True,
        result={"standalone_accuracy": retrained.accuracy, **retrained.figures},
    )


def export(job: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Write an architecture's network to a file among the job's artifacts."""
    search = dataclasses.replace(job, id=str(step.payload["search_id"]))
    figures = networks.export(search, job.id, Export.model_validate(step.payload["export"]), report)
    return Outcome(search_done=True, result=figures)


def measure_device(job: Search, step: Step, networks: Networks, report: Report) -> Outcome:
    """Measure the latencies of a space's choices on this machine."""
    wanted = DeviceMeasurement.model_validate(step.payload["measurement"])
    measured = networks.measure_device(job.space, wanted, report)
    return Outcome(device=measured, search_done=True, result=measured.report)
