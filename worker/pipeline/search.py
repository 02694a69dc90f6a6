"""Algorithm 1 as steps: what each kind of step does, and what follows it.

``train_supernet`` -> per round: ``evaluate_shard`` ... -> ``fit_gcn`` -> ``reevaluate_shard`` ... -> ``advance``;
in the last round ``fit_space`` comes before ``advance``. With true labels, ``train_standalone`` ... and
``correct_predictions`` follow ``fit_gcn``.
Jobs about one architecture of a search, and the measurement of a device, are a single step each.
"""

from app.domain import rounds
from worker.pipeline import jobs, standalone_labels
from worker.pipeline import round as one_round
from worker.pipeline.ports import Networks, Outcome, Reader, Report, Search, Step


def train_supernet(search: Search, networks: Networks, report: Report, shard_size: int) -> Outcome:
    """Step 0, performed once; then the first round begins."""
    figures = networks.train_supernet(search, report)
    opened, steps = one_round.open_round(search, 0, rounds.first_subspace(search.space, search.config), shard_size)
    return Outcome(opened_round=opened, next_steps=steps, result=figures)


def run_step(
    search: Search, step: Step, networks: Networks, reader: Reader, report: Report, *, shard_size: int
) -> Outcome:
    """Do one step of a search.

    Raises:
        StepInterrupted: If ``report`` says so.
        ValueError: If the search cannot go on, with a message for its user.
    """
    if step.round_index is not None:
        return _run_step_of_round(search, step, networks, reader, report, shard_size)
    if step.kind == "train_supernet":
        return train_supernet(search, networks, report, shard_size)
    return jobs.run_job(search, step, networks, report)


def _run_step_of_round(
    search: Search, step: Step, networks: Networks, reader: Reader, report: Report, shard_size: int
) -> Outcome:
    match step.kind:
        case "evaluate_shard" | "reevaluate_shard":
            return one_round.evaluate_shard(search, step, networks, report)
        case "fit_gcn":
            return one_round.fit_gcn(search, step, networks, reader, report, shard_size)
        case "train_standalone":
            return standalone_labels.train_label(search, step, networks, report)
        case "correct_predictions":
            return one_round.correct(search, step, reader, report, shard_size)
        case "fit_space":
            return one_round.fit_space(search, step, networks, reader, report)
        case "advance":
            return one_round.advance(search, step, reader, shard_size)
    raise AssertionError(f"a step {step.kind} belongs to no round")
