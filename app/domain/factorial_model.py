"""Accuracy as a sum over single factors, pairs and triples of factors (functional ANOVA): tables, never a node list.

Legend: N nodes asked about, F factors, n_f choices of factor f.
"""

from dataclasses import dataclass, replace

import numpy as np

from app.domain.hamming_graph import Float64Array, Int64Array
from app.domain.whole_space.additive_function import AdditiveFunction


@dataclass(frozen=True, eq=False)
class Interaction:
    """What a combination of two or three factors adds beyond each of them.

    Attributes:
        factors: The factors, ascending.
        table: float64 [n_f, n_g] or [n_f, n_g, n_h], a value for each combination of their choices.
    """

    factors: tuple[int, ...]
    table: Float64Array


@dataclass(frozen=True, eq=False)
class FactorialModel:
    """A score per architecture: an additive part, and interactions of few factors.

    Attributes:
        additive: The constant and one table per factor.
        interactions: Tables of pairs and triples of factors.
    """

    additive: AdditiveFunction
    interactions: tuple[Interaction, ...]

    def predict_interactions(self, choices_NF: Int64Array) -> Float64Array:
        """Return float64 [N], what the interactions add to the additive score of these nodes."""
        score_N = np.zeros(len(choices_NF))
        for interaction in self.interactions:
            score_N += interaction.table[tuple(choices_NF[:, factor] for factor in interaction.factors)]
        return score_N

    def whole_space(self) -> Float64Array:
        """Return float64 [num_nodes], the scores of all nodes of the product, in their order."""
        sizes = self.additive.factor_sizes
        score = self.additive.whole_space().reshape(sizes)
        for interaction in self.interactions:
            score += interaction.table.reshape([n if f in interaction.factors else 1 for f, n in enumerate(sizes)])
        return score.ravel()

    def with_share(self, share: float) -> "FactorialModel":
        """Return the model with so much of its interactions."""
        return replace(self, interactions=tuple(replace(i, table=share * i.table) for i in self.interactions))
