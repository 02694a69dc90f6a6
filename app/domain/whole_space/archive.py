"""Preparing a whole-space model: the additive proposal that imitates the predictor, and the archive.

Both are made for the limits that users may ask for, by looking where the predictor is high under *some* limits: the
archive holds the best few for each of many random limits (the elites), found by enumeration and by moving through
neighbours. What is worse under one limit is a stepping stone to the best under another.
Legend: N architectures, L cells, C costs, M random limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.domain.seeds import generator
from app.domain.whole_space.additive_function import AdditiveFunction, Float64Array
from app.domain.whole_space.constrained_enumeration import ConstrainedEnumeration
from app.domain.whole_space.model import BlendedPredictor, Candidates, ChoiceArray, WholeSpaceModel, with_each_choice

_NUM_SAMPLES = 4000
_FITS = 3
_RIDGE = 1e-3
_MULTIPLIERS = 3.0
_TEMPERATURES = (0.005, 0.02)
_LIMITS_AT_ONCE = 64
_EXPANDED_AT_ONCE = 500
_MAX_EXPANDED = 400_000


@dataclass(frozen=True)
class ArchiveConfig:
    """How much work goes into an archive.

    Attributes:
        num_limits: Random limits for which elites are kept.
        num_enumerated: Of these, for how many the proposal is enumerated.
        num_proposed: Architectures taken from each of these enumerations.
        num_elites: Architectures kept per limit.
        num_predictions: Predictions that moving through neighbours may take.

    Raises:
        ValueError: If a number is below 1.
    """

    num_limits: int = 1000
    num_enumerated: int = 100
    num_proposed: int = 300
    num_elites: int = 10
    num_predictions: int = 300_000

    def __post_init__(self) -> None:
        smallest = min(self.num_limits, self.num_enumerated, self.num_proposed, self.num_elites, self.num_predictions)
        if smallest < 1:
            raise ValueError("every number of an archive's configuration must be at least 1")


def prepared_model(
    predictor: BlendedPredictor,
    costs: Mapping[str, AdditiveFunction],
    seed: int,
    config: ArchiveConfig | None = None,
) -> WholeSpaceModel:
    """Return the model of a fitted predictor, ready to be stored and asked; the same seed gives the same model.

    Args:
        predictor: What ranks.
        costs: What can be limited, by name.
        seed: The search's.
        config: How much work goes into the archive.
    """
    num_cells = len(predictor.factor_sizes)
    nothing = Candidates(np.zeros((0, num_cells), dtype=np.uint8), np.zeros(0))
    if predictor.is_additive:
        return WholeSpaceModel(predictor, costs, predictor.additive, nothing)
    rng = generator(seed, None, "space archive")
    cost_functions = tuple(costs.values())
    proposal = fitted_proposal(predictor, cost_functions, rng)
    archive = _archive(predictor, cost_functions, proposal, rng, config or ArchiveConfig())
    return WholeSpaceModel(predictor, costs, proposal, archive)


def fitted_proposal(
    predictor: BlendedPredictor, costs: Sequence[AdditiveFunction], rng: np.random.Generator
) -> AdditiveFunction:
    """Fit an additive function to the predictor, first everywhere, then where the last fit was high under limits."""
    sizes = predictor.factor_sizes
    choices_NL = np.stack([rng.integers(0, size, _NUM_SAMPLES) for size in sizes], axis=1).astype(np.uint8)
    fit = _least_squares(choices_NL, predictor.predict(choices_NL), sizes)
    anywhere_NL = choices_NL[: _NUM_SAMPLES // 4]
    for _ in range(_FITS - 1):
        choices_NL = np.concatenate([anywhere_NL, near_front(fit, costs, _NUM_SAMPLES, rng)])
        fit = _least_squares(choices_NL, predictor.predict(choices_NL), sizes)
        anywhere_NL = anywhere_NL[:0]
    return fit


def near_front(
    score: AdditiveFunction, costs: Sequence[AdditiveFunction], num_samples: int, rng: np.random.Generator
) -> ChoiceArray:
    """Return uint8 [N, L], samples near the Pareto front of an additive score and the costs.

    Each is drawn from exp((score - multipliers . costs) / temperature) with random multipliers and temperature; both
    are sums over cells, so the cells are independent and drawn exactly (Gumbel maxima).
    """
    spread = score.maximum - score.minimum or 1.0
    multiplier_NC = rng.dirichlet(np.ones(len(costs) + 1), num_samples)[:, :-1]
    multiplier_NC *= spread * rng.uniform(0, _MULTIPLIERS, (num_samples, 1))
    temperature_N1 = spread * rng.uniform(*_TEMPERATURES, (num_samples, 1))
    columns = []
    for cell_index, table in enumerate(score.tables):
        relative = [cost.tables[cell_index] / ((cost.maximum - cost.minimum) or 1.0) for cost in costs]
        penalty_Nn = multiplier_NC @ np.reshape(relative, (len(costs), len(table)))
        noise_Nn = rng.gumbel(size=(num_samples, len(table)))
        columns.append(((table - penalty_Nn) / temperature_N1 + noise_Nn).argmax(1))
    return np.stack(columns, axis=1).astype(np.uint8)


def _least_squares(choices_NL: ChoiceArray, target_N: Float64Array, factor_sizes: Sequence[int]) -> AdditiveFunction:
    """Ridge regression on one-hot choices; the penalty only decides between fits that are equally good."""
    one_hot = np.concatenate([np.eye(n)[choices_NL[:, cell]] for cell, n in enumerate(factor_sizes)], axis=1)
    mean = one_hot.mean(0)
    centred = one_hot - mean
    normal = centred.T @ centred + _RIDGE * np.eye(len(mean))
    coefficients = np.linalg.solve(normal, centred.T @ (target_N - target_N.mean()))
    constant = float(target_N.mean() - mean @ coefficients)
    return AdditiveFunction(constant, tuple(np.split(coefficients, np.cumsum(factor_sizes)[:-1])))


def _archive(
    predictor: BlendedPredictor,
    costs: Sequence[AdditiveFunction],
    proposal: AdditiveFunction,
    rng: np.random.Generator,
    config: ArchiveConfig,
) -> Candidates:
    limit_MC = random_limits(proposal, costs, config.num_limits, rng)
    enumeration = ConstrainedEnumeration(proposal, tuple(costs))
    limits = limit_MC[: config.num_enumerated].tolist()
    proposed = [enumeration.best(row, config.num_proposed, _MAX_EXPANDED) for row in limits]
    choices_NL = np.concatenate([part.choices_NL for part in proposed])
    elites = _elites(Candidates.of([(choices_NL, predictor.predict(choices_NL))]), costs, limit_MC, config.num_elites)
    expanded: set[bytes] = set()
    left = config.num_predictions
    per_architecture = sum(predictor.factor_sizes)
    while left >= per_architecture:
        rows = [row for row in range(len(elites)) if elites.choices_NL[row].tobytes() not in expanded]
        rows = rows[: min(left // per_architecture, _EXPANDED_AT_ONCE)]
        if not rows:
            break
        expanded.update(elites.choices_NL[row].tobytes() for row in rows)
        around_NL = with_each_choice(elites.choices_NL[rows], predictor.factor_sizes)
        left -= len(around_NL)
        known = (elites.choices_NL, elites.predicted_N)
        elites = _elites(
            Candidates.of([known, (around_NL, predictor.predict(around_NL))]), costs, limit_MC, config.num_elites
        )
    return elites


def random_limits(
    proposal: AdditiveFunction, costs: Sequence[AdditiveFunction], num_limits: int, rng: np.random.Generator
) -> Float64Array:
    """Return float64 [M, C], limits as users may ask for; infinity where a cost is not limited.

    Every other one is anywhere between the smallest and the largest cost, the rest are what an architecture near the
    Pareto front takes, so that several limits can be met at once.
    """
    met_NL = near_front(proposal, costs, num_limits, rng)
    limit_MC = np.stack([cost.of(met_NL) for cost in costs], axis=1) if costs else np.zeros((num_limits, 0))
    for column, cost in enumerate(costs):
        anywhere_M = rng.uniform(cost.minimum, cost.maximum, num_limits)
        limit_MC[::2, column] = anywhere_M[::2]
    limit_MC[rng.random(limit_MC.shape) < 0.5] = np.inf
    return limit_MC


def _elites(
    candidates: Candidates, costs: Sequence[AdditiveFunction], limit_MC: Float64Array, num_elites: int
) -> Candidates:
    """Keep the architectures that are among the best few under at least one of the limits."""
    cost_NC = np.stack([cost.of(candidates.choices_NL) for cost in costs], axis=1) if costs else None
    elite_N: NDArray[np.bool_] = np.zeros(len(candidates), dtype=bool)
    for start in range(0, len(limit_MC), _LIMITS_AT_ONCE):
        limits_MC = limit_MC[start : start + _LIMITS_AT_ONCE]
        within_MN = np.ones((len(limits_MC), len(candidates)), dtype=bool)
        for column in range(limits_MC.shape[1]):
            assert cost_NC is not None
            within_MN &= cost_NC[:, column] <= limits_MC[:, column, None]
        # Candidates are sorted, best first.
        elite_N |= (within_MN & (within_MN.cumsum(1, dtype=np.int32) <= num_elites)).any(0)
    return candidates.take(elite_N)
