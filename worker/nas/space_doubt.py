"""The doubt of a whole space's predictions, and the noise of its labels: a process tuned on some of the pairs.

Legend: N pairs, M of them that the process is conditioned on, C choices over all cells.
"""

from dataclasses import replace

import numpy as np
import torch

from app.domain.hamming_graph import FactorFeatures, Float64Array, Int64Array
from app.domain.whole_space.doubt import Doubt
from worker.nas.product_kernel import (
    JITTER,
    Factors,
    OnStep,
    Strengths,
    covariances,
    noisy,
    one_thread,
    standardised,
    tune_strengths,
)

_MAX_PAIRS = 256
"""What the API keeps of a model and multiplies with for a question grows with their square."""


def fit_doubt(
    features: FactorFeatures,
    choices_NL: Int64Array,
    target_N: Float64Array,
    rng: np.random.Generator,
    on_step: OnStep | None = None,
) -> tuple[Doubt, Float64Array, float]:
    """Return the doubt, float64 [N] how far it stretches each pair's own interval, and the share of noise.

    The noise is the variance that the labels have around the process, in units of their own. Whatever the process
    cannot express counts as noise: interactions of more than three cells, say.

    Args:
        features: The Gray bits of the cells' choices.
        choices_NL: int64 [N, L], the pairs.
        target_N: float64 [N], their accuracies, or efforts.
        rng: Chooses the pairs where there are too many.
        on_step: Called every few milliseconds; it may raise to cancel.
    """
    kept_M = np.sort(rng.permutation(len(target_N))[:_MAX_PAIRS])
    factors = Factors.of(features)
    with one_thread():
        scaled_M = standardised(target_N)[kept_M]
        parameter_P, _ = tune_strengths(factors, choices_NL[kept_M], scaled_M, on_step=on_step)
        strengths = Strengths.of(parameter_P)
        covariance_MM = sum(covariances(strengths, factors, choices_NL[kept_M]), torch.zeros(()))
        inverse_MM = torch.cholesky_inverse(torch.linalg.cholesky(noisy(covariance_MM, strengths.noise))).numpy()
    doubt = _doubt(strengths, factors, choices_NL[kept_M], inverse_MM)
    own_N = doubt.deviation(choices_NL)
    own_N[kept_M] = doubt.left_out_deviation()
    typical = float(np.median(own_N))
    return replace(doubt, typical=typical), own_N / typical, strengths.noise.item()


def _doubt(strengths: Strengths, factors: Factors, choices_ML: Int64Array, inverse_MM: Float64Array) -> Doubt:
    """Lay the kernels out as two matrices over all choices."""
    kernels = [kernel.numpy() for kernel in factors.kernels(strengths.decay)]
    sizes = tuple(len(kernel) for kernel in kernels)
    spans = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]
    additive_CC, interacting_CC = np.zeros((2, sum(sizes), sum(sizes)))
    grouped = {factor for group in factors.alike for factor in group}
    common = strengths.common.item()
    own_F, interacting_F = strengths.factors_F.numpy(), strengths.interacting_F.numpy()
    for factor, (kernel, span) in enumerate(zip(kernels, spans, strict=True)):
        additive_CC[span, span] = (1.0 - common if factor in grouped else 1.0) * own_F[factor] * kernel
        interacting_CC[span, span] = interacting_F[factor] * kernel
    for group in factors.alike:
        for one in group:
            for other in group:
                shared = common * np.sqrt(own_F[one] * own_F[other])
                additive_CC[spans[one], spans[other]] += shared * kernels[group[0]]
    return Doubt(
        sizes,
        choices_ML,
        additive_CC,
        interacting_CC,
        inverse_MM,
        strengths.pairwise.item(),
        strengths.triple.item(),
        strengths.noise.item() + JITTER,
    )
