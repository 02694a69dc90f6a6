"""Sub-network sampling, fast: z of many architectures in one depth-first walk (steps 1 and 3 of the paper).

What a prefix computes is computed once for all architectures that share it, with BN folded into the convolutions.
The numbers are those of :mod:`worker.nas.plain_evaluation` up to rounding, and an architecture's result does not depend
on which others are evaluated with it, nor on the number of threads: every operation runs on one thread on a CPU, on a
batch whose size is given by the network and the machine, and threads share the work node by node.

Wrong by decree: an image whose logits are not all finite counts as misclassified. Weights or BN statistics that are not
finite are an error (:class:`DivergedSupernetError`): no accuracy of such a supernet means anything.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from app.domain.multi_adds import cell_costs, fixed_cost
from app.domain.search_config import BNStatistics
from app.domain.search_space import Architecture, SearchSpace
from worker.nas.batch_norm import calibrate, statistics_batches
from worker.nas.data import SearchData
from worker.nas.evaluation_memory import MemoryPlan, plan_memory
from worker.nas.folded_layers import Affine, FoldedBlock, RawBlock, pool, raw_block
from worker.nas.supernet import Supernet
from worker.nas.trie import TrieNode, build_trie, shard
from worker.nas.trie_walk import TrieWalk

_MAX_TRIE_SIZE = 512
"""Architectures per trie. It bounds what is kept: the statistics of each node, and a label per image."""

_NOT_FINITE = -1
_NOT_VISITED = -2


class DivergedSupernetError(ValueError):
    """The supernet's weights or BN statistics are not finite."""


def evaluate_subnetworks(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    data: SearchData,
    *,
    bn_statistics: BNStatistics,
    device: torch.device | str,
    memory_bytes: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> npt.NDArray[np.int64]:
    """Return how many validation images each sub-network classifies correctly (z times N; section 3.1).

    Args:
        supernet: The trained supernet S; not changed.
        architectures: In any order, also repeated.
        data: The validation images, and the calibration images for ``recalibrated``.
        bn_statistics: ``recalibrated``: each sub-network's own on the calibration set; ``running``: the supernet's;
            ``batch``: each sub-network's own on the validation images themselves, a batch of about 500 at a time.
        device: Where to evaluate.
        memory_bytes: Memory for activations; by default a part of what the machine (or the GPU) has in all. It decides
            the batch size, so the same value gives the same numbers.
        on_progress: Called with the fraction done, in (0, 1], from the calling thread, several times a second; what it
            raises cancels the evaluation after the blocks that are running, and is passed on.

    Returns:
        int64 array, one count per architecture in the order given.

    Raises:
        InvalidArchitectureError: If an architecture is none of the supernet's space.
        DivergedSupernetError: If the supernet's weights or statistics are not finite.
        ValueError: If the calibration set does not fit into the memory.
    """
    data = data.to(device)
    checked = [supernet.space.check(architecture) for architecture in architectures]
    distinct = sorted(set(checked))
    correct: dict[Architecture, int] = {}
    for part, labels_AN in _predictions(supernet, distinct, data, bn_statistics, memory_bytes, on_progress):
        counts_A = (labels_AN == data.validation_labels_N).sum(1)
        correct.update(zip(part, counts_A.tolist(), strict=True))
    return np.array([correct[architecture] for architecture in checked], dtype=np.int64)


def predict_labels(
    supernet: Supernet,
    architectures: Sequence[Architecture],
    data: SearchData,
    *,
    bn_statistics: BNStatistics,
    device: torch.device | str,
    memory_bytes: int | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Tensor:
    """Return the labels that each sub-network predicts for the validation images.

    The arguments and errors are those of :func:`evaluate_subnetworks`.

    Returns:
        int32 [architectures, N] on the device; -1 where the logits are not finite.
    """
    data = data.to(device)
    checked = [supernet.space.check(architecture) for architecture in architectures]
    rows: dict[Architecture, Tensor] = {}
    for part, labels_AN in _predictions(supernet, sorted(set(checked)), data, bn_statistics, memory_bytes, on_progress):
        rows.update(zip(part, labels_AN, strict=True))
    return torch.stack([rows[architecture] for architecture in checked])


def _predictions(
    supernet: Supernet,
    distinct: Sequence[Architecture],
    data: SearchData,
    bn_statistics: BNStatistics,
    memory_bytes: int | None,
    on_progress: Callable[[float], None] | None,
) -> Iterator[tuple[list[Architecture], Tensor]]:
    """Yield parts of the sorted architectures with their predicted labels [architectures, N]."""
    if bn_statistics == "batch":
        yield from _batch_by_batch(supernet, distinct, data, memory_bytes, on_progress)
        return
    device = data.validation_images_NCHW.device
    network = _RawNetwork.of(supernet, distinct, device)
    recalibrated = bn_statistics == "recalibrated"
    plan = plan_memory(
        supernet.space,
        resolution=data.validation_images_NCHW.shape[-1],
        num_calibration=len(data.calibration_images_NCHW) if recalibrated else 0,
        device=device,
        bytes_per_value=network.dtype.itemsize,
        memory_bytes=memory_bytes,
    )
    tries = [(part, build_trie(part)) for part in shard(distinct, _MAX_TRIE_SIZE)]
    progress = _Progress(on_progress)
    evaluations = [
        (part, _TrieEvaluation(network, root, len(part), data, plan, recalibrated, progress)) for part, root in tries
    ]
    num_threads = torch.get_num_threads() if device.type == "cpu" else 1
    try:
        for part, evaluation in evaluations:
            yield part, evaluation.run(num_threads)
    finally:
        torch.set_num_threads(num_threads)  # the walkers set one thread for the whole process's MKL


def _batch_by_batch(
    supernet: Supernet,
    distinct: Sequence[Architecture],
    data: SearchData,
    memory_bytes: int | None,
    on_progress: Callable[[float], None] | None,
) -> Iterator[tuple[list[Architecture], Tensor]]:
    """Evaluate with the statistics of the validation images themselves: each batch is its own calibration set."""
    batches = statistics_batches(data.validation_images_NCHW)
    labels_of = torch.split(data.validation_labels_N, [len(batch) for batch in batches])
    labels: dict[int, list[Tensor]] = {}
    parts: list[list[Architecture]] = []
    for done, (images_NCHW, labels_N) in enumerate(zip(batches, labels_of, strict=True)):
        own = replace(
            data,
            validation_images_NCHW=images_NCHW,
            validation_labels_N=labels_N,
            calibration_images_NCHW=images_NCHW,
        )

        def report(fraction: float, done: int = done) -> None:
            if on_progress is not None:
                on_progress((done + fraction) / len(batches))

        predicted = _predictions(supernet, distinct, own, "recalibrated", memory_bytes, report)
        for number, (part, labels_AN) in enumerate(predicted):
            labels.setdefault(number, []).append(labels_AN)
            if not done:
                parts.append(part)
    for number, part in enumerate(parts):
        yield part, torch.cat(labels[number], dim=1)


@dataclass(frozen=True, eq=False)
class _RawNetwork:
    """The blocks of a supernet that some architectures use, on the device, not yet folded."""

    space: SearchSpace
    dtype: torch.dtype
    stem: RawBlock
    cells: dict[tuple[int, int], RawBlock]
    head: RawBlock
    classifier_weight: Tensor
    classifier_bias: Tensor

    @classmethod
    def of(cls, supernet: Supernet, architectures: Sequence[Architecture], device: torch.device) -> "_RawNetwork":
        tensors = [tensor for tensor in supernet.state_dict().values() if tensor.is_floating_point()]
        _check_finite(tensors, "the supernet has weights or BN statistics that are not finite")
        # As autocast would choose, but cast once instead of at every use; BN and the classifier stay float32.
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        used = {key for architecture in architectures for key in enumerate(architecture)}
        classifier = supernet.head.classifier
        return cls(
            supernet.space,
            dtype,
            stem=raw_block(supernet.stem, device, dtype),
            cells={key: raw_block(supernet.block(*key), device, dtype) for key in sorted(used)},
            head=raw_block(supernet.head.conv, device, dtype),
            classifier_weight=classifier.weight.detach().to(device, torch.float32),
            classifier_bias=classifier.bias.detach().to(device, torch.float32),
        )

    def blocks(self, node: TrieNode) -> list[RawBlock]:
        """Return what runs at a node: its block, and for a whole architecture also the head."""
        block = self.stem if node.cell_index < 0 else self.cells[node.cell_index, node.choice]
        return [block] if node.leaf_index < 0 else [block, self.head]

    def logits(self, features_NCHW: Tensor) -> Tensor:
        """Map the output of the head's convolution to logits, float32 [N, num_classes]."""
        return functional.linear(pool(features_NCHW).float(), self.classifier_weight, self.classifier_bias)


@dataclass(frozen=True, eq=False)
class _Task:
    """A node to be run on a batch of validation images, with the activations of its parent; the root has none yet."""

    node: TrieNode
    batch_index: int
    x_NCHW: Tensor | None = None
    calibration_NCHW: Tensor | None = None


class _TrieEvaluation:
    """The walk over one trie: predicts a label for each of its architectures and each validation image."""

    def __init__(
        self,
        network: _RawNetwork,
        root: TrieNode,
        num_architectures: int,
        data: SearchData,
        plan: MemoryPlan,
        recalibrated: bool,
        progress: "_Progress",
    ) -> None:
        self._network, self._root, self._data, self._plan, self._progress = network, root, data, plan, progress
        self._recalibrated = recalibrated
        images_NCHW = data.validation_images_NCHW
        num_batches = -(-len(images_NCHW) // plan.batch_size)
        self._bounds = [round(i * len(images_NCHW) / num_batches) for i in range(num_batches + 1)]
        self._num_architectures = num_architectures
        self._labels_AN = torch.empty(0)
        self._folded: dict[RawBlock, FoldedBlock] = {}
        self._affines: dict[TrieNode, list[tuple[Affine, ...]]] = {}
        self._costs = _block_costs(network.space)
        num_images = len(images_NCHW) + (len(data.calibration_images_NCHW) if recalibrated else 0)
        progress.total += num_images * sum(self._cost(node) for node in root)

    def run(self, num_threads: int) -> Tensor:
        """Return the predicted labels, int32 [architectures, N]."""
        data = self._data
        shape = self._num_architectures, len(data.validation_images_NCHW)
        self._labels_AN = torch.full(shape, _NOT_VISITED, dtype=torch.int32, device=data.validation_images_NCHW.device)
        walk = TrieWalk(self._visit)
        roots = [_Task(self._root, batch_index) for batch_index in range(len(self._bounds) - 1)]
        if not self._recalibrated:
            walk.run(roots, num_threads=num_threads, while_waiting=self._progress.report)
        else:  # the walk over the first batch calibrates, and the others take its statistics
            for tasks in (roots[:1], roots[1:]):
                walk.run(tasks, num_threads=num_threads, while_waiting=self._progress.report)
        self._progress.report()
        assert not bool((self._labels_AN == _NOT_VISITED).any()), "the walk has left out images"
        shifts = [affine.shift_C for blocks in self._affines.values() for affines in blocks for affine in affines]
        _check_finite(shifts, "recalibration gave BN statistics that are not finite")
        return self._labels_AN

    def _visit(self, task: _Task) -> list[_Task]:
        """Run the blocks of a node; return its children."""
        node, x_NCHW, calibration_NCHW = task.node, task.x_NCHW, task.calibration_NCHW
        start, stop = self._bounds[task.batch_index : task.batch_index + 2]
        if x_NCHW is None:
            x_NCHW = self._load(self._data.validation_images_NCHW[start:stop])
            if self._recalibrated and not task.batch_index:
                calibration_NCHW = self._load(self._data.calibration_images_NCHW)
        num_images = len(x_NCHW) + (0 if calibration_NCHW is None else len(calibration_NCHW))
        for position, raw in enumerate(self._network.blocks(node)):
            folded, calibration_NCHW = self._prepare(node, position, raw, calibration_NCHW)
            x_NCHW = folded(x_NCHW)
        if node.leaf_index >= 0:
            logits = self._network.logits(x_NCHW)
            finite_N = logits.isfinite().all(1)
            self._labels_AN[node.leaf_index, start:stop] = torch.where(finite_N, logits.argmax(1), _NOT_FINITE)
        self._progress.add(num_images * self._cost(node))
        return [_Task(child, task.batch_index, x_NCHW, calibration_NCHW) for child in node.children]

    def _prepare(
        self, node: TrieNode, position: int, raw: RawBlock, calibration_NCHW: Tensor | None
    ) -> tuple[FoldedBlock, Tensor | None]:
        """Return a node's block folded for it, and what the block makes of the calibration set."""
        if not self._recalibrated:
            folded = self._folded.get(raw)
            if folded is None:  # two threads may both fold it, to the same weights
                folded = self._folded[raw] = raw.fold(raw.running_affines())
            return folded, None
        if calibration_NCHW is not None:
            affines, calibration_NCHW = calibrate(
                raw, calibration_NCHW, budget_bytes=self._plan.inner_bytes, is_last=raw is self._network.head
            )
            self._affines.setdefault(node, []).append(affines)
        return raw.fold(self._affines[node][position]), calibration_NCHW

    def _load(self, images_NCHW: Tensor) -> Tensor:
        normalised = self._data.normalise(images_NCHW.contiguous(memory_format=torch.channels_last))
        return normalised.to(self._network.dtype)

    def _cost(self, node: TrieNode) -> int:
        """Multi-adds per image of what a node runs."""
        cost = self._costs[node.cell_index, node.choice]
        return cost if node.leaf_index < 0 else cost + self._costs[_HEAD]


class _Progress:
    """Counts the multi-adds done; reports the fraction from the thread that waits."""

    def __init__(self, on_progress: Callable[[float], None] | None) -> None:
        self.total = 0
        self._done = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def add(self, multi_adds: int) -> None:
        """Count work as done; from any thread."""
        with self._lock:
            self._done += multi_adds

    def report(self) -> None:
        """Tell the fraction done."""
        if self._on_progress is not None and self._done:
            self._on_progress(self._done / self.total)


_HEAD = (-2, -2)


def _block_costs(space: SearchSpace) -> dict[tuple[int, int], int]:
    """Multi-adds of every block by (cell, choice); the stem and the head share their sum."""
    costs = {
        (cell_index, choice): cost.multi_adds
        for cell_index, choices in enumerate(cell_costs(space))
        for choice, cost in enumerate(choices)
    }
    return costs | dict.fromkeys(((-1, -1), _HEAD), fixed_cost(space).multi_adds // 2)


def _check_finite(tensors: Sequence[Tensor], problem: str) -> None:
    # The extremes of a tensor that holds a NaN are NaN; no mask as large as the supernet is made.
    if tensors and not bool(torch.stack([e for tensor in tensors for e in tensor.aminmax()]).isfinite().all()):
        raise DivergedSupernetError(f"{problem}: its training has diverged; train it again with a lower learning rate")
