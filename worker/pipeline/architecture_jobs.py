"""Jobs about one architecture of a search, each a single step: its training by itself, and its export to a file."""

import dataclasses

from app.domain.architecture_export import Export
from app.domain.standalone_recipe import Retraining
from worker.pipeline.ports import Networks, Outcome, Report, Search, StandaloneAccuracy, Step


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
