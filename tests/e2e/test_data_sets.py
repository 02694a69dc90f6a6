"""A search on an uploaded archive, from the request to the answer of a lookup, and an upload that is gone."""

import io
import zipfile
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from app.cli.main import run
from tests.e2e.test_whole_search import ended, follow, submit


def stripes(label: int, index: int, mode: str) -> bytes:
    """A striped image of an odd size, along one axis or the other."""
    rng = np.random.default_rng(100 * label + index)
    pixels = rng.integers(0, 60, (20 + index % 5, 24)).astype(np.uint8)
    (pixels if label == 0 else pixels.T)[::3] += 150
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def archive() -> bytes:
    """Two classes of 40 images each, a third of them coloured, in a folder of their own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for label in (0, 1):
            for index in range(40):
                content = stripes(label, index, "RGB" if index % 3 == 0 else "L")
                packed.writestr(f"stripes/{('across', 'down')[label]}/{index}.png", content)
    return buffer.getvalue()


def test_a_search_on_an_upload(client: httpx2.Client, archive: bytes, tmp_path: Any, capsys: Any) -> None:
    (tmp_path / "stripes.zip").write_bytes(archive)
    url = str(client.base_url)
    assert run(["datasets", "upload", "stripes", str(tmp_path / "stripes.zip"), "--url", url]) == 0
    assert "80 images" in capsys.readouterr().out
    changes = {"dataset": "stripes", "num_images": None, "batch_size": 16, "num_rounds": 1, "epochs": 2}
    search = follow(client, submit(client, **changes)["id"], ended)[-1]
    assert search["state"] == "succeeded", search["error"]
    assert (search["dataset"], search["config"]["num_classes"]) == ("stripes", 2)
    assert client.get("/lookup", params={"search_id": search["id"]}).raise_for_status().json()["items"]
    for command in (["list"], ["show", "stripes"], ["delete", "stripes"]):
        assert run(["datasets", *command, "--url", url]) == 0
    said = capsys.readouterr().out
    assert "upload" in said
    assert "across" in said
    assert "stripes is deleted" in said
    # what was found stays, and says what is missing when more is asked of it
    code = search["final"]["code"]
    asked = client.post(f"/search/{search['id']}/architectures/{code}/retraining", json={})
    assert asked.status_code == 422
    assert "were deleted" in asked.json()["detail"]
