"""The torch side of a search behind the pipeline's port: data, supernet, evaluation and GCN on this worker's device.

A worker keeps the data and the supernet of the search it worked on last, since the next shard most often needs them.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from app.domain.architecture_export import Export
from app.domain.data_sets import DataSetError, root_of_upload
from app.domain.device_measurement import DeviceMeasurement
from app.domain.hamming_graph import HammingGraph
from app.domain.multi_adds import feasible_range
from app.domain.search_config import SearchConfig
from app.domain.search_space import Architecture, SearchSpace
from app.domain.standalone_recipe import STANDALONE_VALIDATION_IMAGES, Retraining, TrainingImages
from app.domain.subspace import Subspace
from worker.nas.checkpoint import CheckpointStore
from worker.nas.data import SearchData, load_search_data, with_left_out
from worker.nas.distributed_training import train_supernet_distributed
from worker.nas.evaluation import evaluate_subnetworks
from worker.nas.gcn_training import GCNTrainingConfig
from worker.nas.round_fit import RoundPairs, fit_round
from worker.nas.similarity import measured_similarity
from worker.nas.space_fit import fit_space
from worker.nas.standalone_training import STANDALONE, load_standalone, train_standalone
from worker.nas.subnetwork import inherited_subnetwork
from worker.nas.supernet import Supernet
from worker.nas.supernet_training import (
    SupernetTrainingConfig,
    TrainingProgress,
    TrainingReport,
    load_supernet,
    train_supernet,
)
from worker.nas.training_config import TrainingDivergedError
from worker.nas.training_memory import check_training_memory
from worker.pipeline.ports import Fit, FittedSpace, MeasuredDevice, Report, Retrained, Search, UntrainableError

_FIT_SHARE = 0.9
"""Share of the whole space's fit that is training; the rest is the preparation of the queries."""


@dataclass(frozen=True)
class _Loaded:
    """What a worker keeps of a search.

    Attributes:
        key: Of which search, resolution and images.
        data: Its images at one resolution.
        proxy: The space of the networks that it trains.
        judging: The same images with more for validation; None: not loaded yet.
        warnings: What could not be had of them.
    """

    key: tuple[str, int, TrainingImages]
    data: SearchData
    proxy: SearchSpace
    judging: SearchData | None = None
    warnings: tuple[str, ...] = ()


class TorchNetworks:
    """Implements :class:`worker.pipeline.ports.Networks`. One instance belongs to one thread."""

    def __init__(
        self,
        *,
        choose_device: Callable[[], torch.device],
        data_root: Path | None,
        artifact_url: str,
        upload_root: Path | None = None,
        num_processes: int = 1,
        memory_bytes: int | None = None,
    ) -> None:
        """Work on a device.

        Args:
            choose_device: Says where everything runs; asked when a step begins, so that its error is the search's.
            data_root: Directory of the image data sets.
            artifact_url: fsspec URL of the checkpoints.
            upload_root: Directory of the uploaded data sets.
            num_processes: Processes (GPUs) of one supernet training.
            memory_bytes: Budget for the activations of an evaluation; None: chosen from the machine.
        """
        self._choose_device = choose_device
        self._data_root = data_root
        self._artifact_url = artifact_url
        self._upload_root = upload_root
        self._num_processes = num_processes
        self._memory_bytes = memory_bytes
        self._loaded: _Loaded | None = None
        self._supernet: tuple[str, Supernet] | None = None

    def train_supernet(self, search: Search, report: Report) -> Mapping[str, Any]:
        """Train the supernet (step 0), or go on from its last checkpoint; return figures of the training."""
        # several processes take the images from here and hold their own: a copy on the device would be in their way
        loaded = self._load(search, report, device=torch.device("cpu") if self._num_processes > 1 else None)
        config = search.config
        check_training_memory(loaded.proxy, config.batch_size // self._num_processes, self._device)
        training = SupernetTrainingConfig(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            augmentation=config.augmentation,
            label_smoothing=config.label_smoothing,
            initialisation=config.initialisation,
            residual_scale=1.0 if config.residual_scale is None else config.residual_scale,
            warmup_fraction=config.warmup_fraction,
            max_gradient_norm=config.max_gradient_norm,
            fairness=config.fairness,
        )

        def on_progress(progress: TrainingProgress) -> None:
            shown = {"epoch": progress.epoch, "epochs": config.epochs, "loss": progress.loss}
            report(progress.fraction, {**shown, "curve": progress.curve})

        if self._num_processes > 1:
            result = train_supernet_distributed(
                loaded.proxy,
                loaded.data,
                training,
                seed=config.seed,
                num_processes=self._num_processes,
                device=self._device,
                checkpoints=self._checkpoints(search),
                on_progress=on_progress,
            )
        else:
            result = train_supernet(
                loaded.proxy,
                loaded.data,
                training,
                seed=config.seed,
                device=self._device,
                checkpoints=self._checkpoints(search),
                on_progress=on_progress,
            )
        smallest, largest = feasible_range(loaded.proxy)
        return {
            **_training_figures(loaded.data, result),
            "proxy_multi_adds": [smallest.multi_adds, largest.multi_adds],
        }

    def evaluate(self, search: Search, architectures: Sequence[Architecture], report: Report) -> list[float]:
        """Return z of each architecture, in the order given: the accuracy of its sub-network on D_val."""
        data = self._load(search, report).data
        correct_N = evaluate_subnetworks(
            self._load_supernet(search),
            architectures,
            data,
            bn_statistics=search.config.bn_statistics,
            device=self._device,
            memory_bytes=self._memory_bytes,
            on_progress=lambda fraction: report(fraction, {"num_architectures": len(architectures)}),
        )
        return [int(correct) / len(data.validation_labels_N) for correct in correct_N]

    def fit(
        self,
        search: Search,
        round_index: int,
        subspace: Subspace,
        index_N: npt.NDArray[np.int64],
        accuracy_N: npt.NDArray[np.float64],
        report: Report,
    ) -> Fit:
        """Fit the configured predictor to pairs of a subspace (step 2) and predict all of it."""
        config = search.config
        graph = _graph(config, subspace, index_N, accuracy_N)
        fitted = fit_round(
            config.predictor,
            RoundPairs(graph, subspace.factor_features(), index_N, accuracy_N),
            _gcn_training(config),
            config.seed,
            round_index,
            self._device,
            report,
            labels_follow=config.num_standalone > 0,
        )
        return Fit(fitted.predicted_N, fitted.report, fitted.interval, fitted.left_out)

    def fit_space(self, search: Search, accuracies: Mapping[Architecture, float], report: Report) -> FittedSpace:
        """Fit a predictor of the whole space to all pairs, and prepare it for questions under limits."""
        config, start = search.config, time.perf_counter()
        model, figures = fit_space(
            search.space,
            np.array(list(accuracies), dtype=np.int64),
            np.array(list(accuracies.values())),
            _gcn_training(config),
            config.seed,
            self._device,
            lambda share, details: report(_FIT_SHARE * share, details),
            config.predictor,
            labels_follow=config.num_standalone > 0,
        )
        return FittedSpace(model, {**figures, "fit_seconds": round(time.perf_counter() - start, 2)})

    def retrain(self, search: Search, job_id: str, retraining: Retraining, report: Report) -> Retrained:
        """Train one architecture of a search by itself, or go on from the last checkpoint of the job or folder."""
        is_target = retraining.network == "target"
        search = dataclasses.replace(search, config=retraining.config_of(search.config))
        loaded = self._load(search, report, search.space.input_resolution if is_target else None)
        architecture = search.space.parse_code(retraining.code)
        inherited = None
        if retraining.from_supernet:
            network = inherited_subnetwork(self._load_supernet(search), architecture, loaded.data)
            inherited = network.state_dict()
        epochs = retraining.recipe.epochs
        data, warnings = self._load_judging(search, report)
        try:
            result = train_standalone(
                retraining.space_of(search.space, loaded.proxy),
                architecture,
                data,
                retraining.recipe,
                seed=retraining.seed,
                device=self._device,
                checkpoints=self._checkpoints_at(job_id),
                inherited=inherited,
                on_progress=lambda progress: report(
                    progress.fraction, {"epoch": progress.epoch, "epochs": epochs, "loss": progress.loss}
                ),
            )
        except TrainingDivergedError as error:
            raise UntrainableError(str(error)) from error
        trained = dataclasses.replace(result.report, warnings=(*result.report.warnings, *warnings))
        figures = {**_training_figures(data, trained), "images_at_once": result.images_at_once}
        return Retrained(result.accuracy, f"{job_id}/{STANDALONE}", figures)

    def export(self, search: Search, job_id: str, export: Export, report: Report) -> Mapping[str, Any]:
        """Write the network of one architecture of a search to the artifacts of a job; return figures of it."""
        retraining = export.retraining
        is_target = retraining is not None and retraining.network == "target"
        if retraining is not None:
            search = dataclasses.replace(search, config=retraining.config_of(search.config))
        loaded = self._load(search, report, search.space.input_resolution if is_target else None)
        architecture = search.space.parse_code(export.code)
        data = loaded.data
        if export.job_id is None:
            network = inherited_subnetwork(self._load_supernet(search), architecture, data)
        else:
            # what its z* was measured on
            data, _ = self._load_judging(search, report)
            trained = self._checkpoints_at(export.job_id)
            space = export.space_of(search.space, loaded.proxy)
            network = load_standalone(space, architecture, trained).to(self._device)
        # Imported here: seconds, for the few steps that export.
        from worker.nas.export import write_export

        artifacts = CheckpointStore(self._artifact_url, job_id)
        return write_export(network, data, export, artifacts, lambda: report(0.5, {"format": export.format}))

    def measure_device(self, space: SearchSpace, wanted: DeviceMeasurement, report: Report) -> MeasuredDevice:
        """Measure the latencies of a search space's choices on this machine."""
        # Imported here: onnx and onnxruntime, for the few steps that measure.
        from worker.nas.device_latency import measure_device

        table, figures = measure_device(space, wanted, self._device, lambda share: report(share, None))
        return MeasuredDevice(wanted, table, figures)

    @cached_property
    def _device(self) -> torch.device:
        return self._choose_device()

    def _checkpoints(self, search: Search) -> CheckpointStore:
        return CheckpointStore(self._artifact_url, search.id)

    def _checkpoints_at(self, place: str) -> CheckpointStore:
        """Those of a training by itself: a job's, or ``<search>/<folder>`` of one that is a step of its search."""
        return CheckpointStore(self._artifact_url, *place.split("/", 1))

    def _load(
        self, search: Search, report: Report, resolution: int | None = None, device: torch.device | None = None
    ) -> _Loaded:
        """Return the search's data, loading them if others are here; by default for the proxy, on its device."""
        config, space = search.config, search.space
        resolution = resolution or config.proxy_resolution or space.input_resolution
        key = (search.id, resolution, TrainingImages.of(config))
        if self._loaded is None or self._loaded.key != key:
            # with the images the supernet goes: it is checked against them when it is loaded
            self._loaded = self._supernet = None
            data = load_search_data(
                search.dataset,
                self._root_of(search),
                resolution=resolution,
                num_classes=config.num_classes,
                num_images=config.num_images,
                validation_fraction=config.validation_fraction,
                num_calibration_images=config.num_calibration_images,
                seed=config.seed,
                on_progress=_as_loading(report),
            )
            self._loaded = _Loaded(key, data, proxy_space(search, data.num_classes))
        self._loaded = dataclasses.replace(self._loaded, data=self._loaded.data.to(device or self._device))
        return self._loaded

    def _load_judging(self, search: Search, report: Report) -> tuple[SearchData, tuple[str, ...]]:
        """Return the loaded images with as many for validation as a network deserves that took minutes to train.

        And warnings: that a search cannot read what it does not need is no reason to end it.
        """
        loaded, config = self._loaded, search.config
        assert loaded is not None, "the data are loaded first"
        judging, warnings = loaded.judging, loaded.warnings
        if judging is None:
            try:
                judging = with_left_out(
                    loaded.data,
                    search.dataset,
                    self._root_of(search),
                    num_validation_images=STANDALONE_VALIDATION_IMAGES,
                    num_classes=config.num_classes,
                    num_images=config.num_images,
                    seed=config.seed,
                    on_progress=_as_loading(report),
                )
            except DataSetError as error:
                judging = loaded.data
                warnings = (f"measured on D_val alone: of the images that the search leaves out, {error}",)
        judging = judging.to(loaded.data.device)
        self._loaded = dataclasses.replace(loaded, judging=judging, warnings=warnings)
        return judging, warnings

    def _root_of(self, search: Search) -> Path | None:
        """The data root that a search's data set lies under."""
        if search.upload_id is None:
            return self._data_root
        if self._upload_root is None:
            raise DataSetError("this worker was not told where uploads are; set NASATLAS_UPLOAD_ROOT")
        return root_of_upload(self._upload_root, search.upload_id)

    def _load_supernet(self, search: Search) -> Supernet:
        if self._supernet is None or self._supernet[0] != search.id:
            assert self._loaded is not None, "the data are loaded first"
            self._supernet = None
            loaded = self._loaded
            # at another resolution than the proxy's the same images have other pixels
            is_proxy = loaded.data.resolution == (search.config.proxy_resolution or search.space.input_resolution)
            checked = loaded.data if is_proxy else None
            supernet = load_supernet(loaded.proxy, self._checkpoints(search), self._device, checked)
            self._supernet = (search.id, supernet)
        return self._supernet[1]


def _as_loading(report: Report) -> Callable[[float], None]:
    """What reports the fraction of the images that are decoded."""
    return lambda fraction: report(0.0, {"loading_images": round(fraction, 3)})


def _training_figures(data: SearchData, training: TrainingReport) -> dict[str, Any]:
    """Figures of a training, as JSON data."""
    return {
        "num_train_images": len(data.train_labels_N),
        "num_validation_images": len(data.validation_labels_N),
        "num_classes": data.num_classes,
        "loss_curve": [round(epoch.loss, 5) for epoch in training.results],
        "accuracy_curve": [round(epoch.accuracy, 5) for epoch in training.results],
        "images_per_s": round(training.images_per_s, 1),
        "seconds": round(training.duration_s, 2),
        "warnings": list(training.warnings),
    }


def proxy_space(search: Search, num_classes: int) -> SearchSpace:
    """Return the space of the networks that a search really trains."""
    return search.space.proxy(
        resolution=search.config.proxy_resolution, width=search.config.proxy_width, num_classes=num_classes
    )


def _gcn_training(config: SearchConfig) -> GCNTrainingConfig:
    return GCNTrainingConfig(
        hidden_sizes=config.gcn_hidden_sizes,
        epochs=config.gcn_epochs,
        learning_rate=config.gcn_learning_rate,
        weight_decay=config.gcn_weight_decay,
        milestones=config.gcn_milestones,
        decay=config.gcn_decay,
    )


def _graph(
    config: SearchConfig, subspace: Subspace, index_N: npt.NDArray[np.int64], accuracy_N: npt.NDArray[np.float64]
) -> HammingGraph:
    """Return the Hamming graph of a subspace with the configured similarity."""
    graph = HammingGraph.assigned(subspace.factor_sizes, hamming_threshold=config.hamming_threshold)
    return graph if config.similarity == "assigned" else measured_similarity(graph, index_N, accuracy_N)
