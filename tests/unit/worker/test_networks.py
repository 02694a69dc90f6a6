"""The torch side of a search behind the pipeline's port: what goes wrong in it belongs to the step."""

from pathlib import Path

import pytest
import torch

from app.domain.search_config import from_preset
from app.domain.search_space import preset
from worker.nas.device import choose_device
from worker.networks import TorchNetworks
from worker.pipeline.ports import Search

SPACE = preset("nas-bench-macro")
SEARCH = Search("search", "digits", SPACE, from_preset("quick", {"num_images": 200}).resolved(SPACE))


def test_a_device_that_is_not_there_fails_the_step_and_not_the_worker(tmp_path: Path) -> None:
    networks = TorchNetworks(
        choose_device=lambda: choose_device(f"cuda:{torch.cuda.device_count()}"),
        data_root=None,
        artifact_url=str(tmp_path),
    )
    with pytest.raises(ValueError, match="is not there: torch sees"):
        networks.train_supernet(SEARCH, lambda _progress, _detail: None)
