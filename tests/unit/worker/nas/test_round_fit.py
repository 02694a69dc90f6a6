"""Step 2 with either predictor: the paper's is the paper's GCN to the last bit."""

import numpy as np
import pytest
import torch

from app.domain.hamming_graph import HammingGraph
from app.domain.search_space import preset
from app.domain.seeds import derive_seed
from app.domain.subspace import Subspace
from worker.nas.gcn_training import GCNTrainingConfig, fit_gcn, predict_subspace
from worker.nas.round_fit import RoundPairs, fit_round

SUBSPACE = Subspace(preset("nas-bench-macro"), (0,) * 8, (0, 1, 2, 3))
CONFIG = GCNTrainingConfig(hidden_sizes=(8, 8), epochs=20)
CPU = torch.device("cpu")


def pairs() -> RoundPairs:
    rng = np.random.default_rng(0)
    graph = HammingGraph.assigned(SUBSPACE.factor_sizes)
    index = np.sort(rng.permutation(graph.num_nodes)[:30])
    accuracy = 0.5 + 0.02 * graph.choices(index).sum(1) + 0.01 * rng.normal(size=30)
    return RoundPairs(graph, SUBSPACE.factor_features(), index, accuracy)


def test_paper_is_the_papers_gcn_exactly() -> None:
    given = pairs()
    fit = fit_round("paper", given, CONFIG, 7, 2, CPU, lambda _share, _details: None)
    expected = fit_gcn(
        given.graph, given.features, given.index_N, given.accuracy_N, CONFIG, derive_seed(7, 2, "gcn"), CPU
    )
    assert fit.predicted_N.tobytes() == predict_subspace(expected).tobytes()
    assert fit.interval is None
    assert 0 < fit.report["label_noise"] < 0.03


@pytest.mark.parametrize("predictor", ["paper", "auto"])
def test_reports_and_progress(predictor: str) -> None:
    seen: list[float] = []
    fit = fit_round(predictor, pairs(), CONFIG, 7, 2, CPU, lambda share, _details: seen.append(share))  # type: ignore[arg-type]
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= 1
    assert fit.report["predictor"] == predictor
    assert fit.predicted_N.shape == (81,)
    again = fit_round(predictor, pairs(), CONFIG, 7, 2, CPU, lambda _share, _details: None)  # type: ignore[arg-type]
    assert again.predicted_N.tobytes() == fit.predicted_N.tobytes()
    assert (predictor == "auto") == (fit.interval is not None)


def test_where_labels_follow_the_interactions_are_in_the_prediction() -> None:
    graph, choices = pairs().graph, pairs().graph.choices(np.arange(81))
    index = np.arange(0, 81, 2)
    accuracy = 0.5 + 0.02 * choices[index].sum(1) + 0.02 * (choices[index, 0] - 1) * (choices[index, 3] - 1)
    for cell in (0, 1, 2):
        accuracy -= 0.01 * (choices[index, cell] - 1) * (choices[index, cell + 1] - 1)
    given = RoundPairs(graph, SUBSPACE.factor_features(), index, accuracy)
    interacting = []
    for labels_follow in (False, True):
        fit = fit_round("auto", given, CONFIG, 7, 2, CPU, lambda _share, _details: None, labels_follow)
        table = fit.predicted_N.reshape(3, 9, 3)
        # the difference of differences of the first and the last cell; links are monotone, so it keeps its sign
        interacting.append(float((table[2, :, 2] - table[2, :, 0] - table[0, :, 2] + table[0, :, 0]).mean()))
        assert fit.interval is not None
    assert interacting[1] > 0.05 > abs(interacting[0])


@pytest.mark.parametrize("predictor", ["paper", "auto"])
def test_a_cancellation_passes_through_within_a_few_steps(predictor: str) -> None:
    class StopError(Exception):
        pass

    seen: list[float] = []

    def stop(share: float, _details: object) -> None:
        seen.append(share)
        if len(seen) == 3:
            raise StopError

    with pytest.raises(StopError):
        fit_round(predictor, pairs(), CONFIG, 7, 2, CPU, stop)  # type: ignore[arg-type]
    assert seen[-1] < 0.2
