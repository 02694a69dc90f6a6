"""Checkpoints come back as they were, or with an error: never torn, never someone else's, never pickled."""

import errno
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from worker.nas.checkpoint import CheckpointError, CheckpointStore


@pytest.fixture(params=["directory", "memory"])
def store(request, tmp_path):
    url = str(tmp_path) if request.param == "directory" else f"memory://{tmp_path.name}"
    yield CheckpointStore(url, "search-1")
    CheckpointStore(url, "search-1").delete_all()


def tensors():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, 5, generator=generator).contiguous(memory_format=torch.channels_last)
    return {
        "weight": weight,
        "half": weight.to(torch.bfloat16),
        "steps": torch.tensor(7),
        "view": weight[:, 1],
        "pixels": torch.arange(6, dtype=torch.uint8),
        "empty": torch.zeros(0, 3),
    }


def test_round_trip(store):
    store.save_tensors("supernet", tensors(), {"digest": "abc"})
    checkpoint = store.load_tensors("supernet")
    assert checkpoint.metadata == {"digest": "abc"}
    assert checkpoint.tensors.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert checkpoint.tensors[name].dtype == expected.dtype
        assert torch.equal(checkpoint.tensors[name], expected)


def test_names_exists_delete(store):
    assert store.names() == ()
    assert not store.exists("a")
    for name in ("b", "a"):
        store.save_tensors(name, tensors(), {})
    assert store.names() == ("a", "b")
    store.delete("a")
    store.delete("a")
    assert store.names() == ("b",)
    store.delete_all()
    store.delete_all()
    assert store.names() == ()


def test_a_missing_checkpoint_is_said_so(store):
    with pytest.raises(CheckpointError, match="no checkpoint 'nothing'"):
        store.load_tensors("nothing")


def test_a_folder_of_a_search_is_a_part_of_it(tmp_path):
    whole, part = (
        CheckpointStore(str(tmp_path), "search-1"),
        CheckpointStore(str(tmp_path), "search-1", "standalone-01"),
    )
    whole.save_tensors("supernet", tensors(), {})
    part.save_tensors("standalone", tensors(), {})
    assert (whole.names(), part.names()) == (("supernet",), ("standalone",))
    assert (tmp_path / "search-1" / "standalone-01" / "standalone.safetensors").exists()
    part.delete_all()
    assert whole.names() == ("supernet",)
    for folder in ("..", "a/b", ".hidden"):
        with pytest.raises(CheckpointError, match="no search id or folder"):
            CheckpointStore(str(tmp_path), "search-1", folder)


def test_searches_do_not_see_each_other(tmp_path):
    one, two = CheckpointStore(str(tmp_path), "one"), CheckpointStore(str(tmp_path), "two")
    one.save_tensors("supernet", tensors(), {})
    assert not two.exists("supernet")
    two.delete_all()
    assert one.exists("supernet")


def file_of(tmp_path):
    return tmp_path / "search" / "a.safetensors"


@pytest.fixture
def local(tmp_path):
    store = CheckpointStore(str(tmp_path), "search")
    store.save_tensors("a", tensors(), {"k": "v"})
    return store


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated_files_are_refused(local, tmp_path, kept):
    payload = file_of(tmp_path).read_bytes()
    file_of(tmp_path).write_bytes(payload[: int(kept * len(payload)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        local.load_tensors("a")


def test_a_lost_page_is_found_by_the_digest(local, tmp_path):
    payload = bytearray(file_of(tmp_path).read_bytes())
    payload[-400:-300] = bytes(100)
    file_of(tmp_path).write_bytes(payload)
    with pytest.raises(CheckpointError, match="damaged"):
        local.load_tensors("a")


def test_foreign_files_are_refused_and_pickles_never_loaded(local, tmp_path):
    save_file({"x": torch.zeros(3)}, file_of(tmp_path))
    with pytest.raises(CheckpointError, match="not written by NAS Atlas"):
        local.load_tensors("a")

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    file_of(tmp_path).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        local.load_tensors("a")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_not_saved(local, value):
    broken = tensors()
    broken["weight"][0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=r"'weight'.*NaN or infinity"):
        local.save_tensors("a", broken, {})
    assert local.load_tensors("a").metadata == {"k": "v"}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(local, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.nas.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        local.save_tensors("a", {"new": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert local.load_tensors("a").metadata == {"k": "v"}
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["a.safetensors"]


def test_a_file_that_is_truncated_while_it_is_written_never_takes_the_old_ones_place(local, tmp_path, monkeypatch):
    def truncate(descriptor):
        os.ftruncate(descriptor, 10)

    monkeypatch.setattr("worker.nas.checkpoint.os.fsync", truncate)
    with pytest.raises(OSError, match="does not hold what was written") as caught:
        local.save_tensors("a", {"new": torch.zeros(3)}, {})
    assert caught.value.errno == errno.EIO
    assert local.load_tensors("a").metadata == {"k": "v"}
    assert [path.name for path in (tmp_path / "search").iterdir()] == ["a.safetensors"]


def test_leftovers_of_killed_writers_are_not_checkpoints(local, tmp_path):
    (tmp_path / "search" / ".writing-x.safetensors").write_bytes(b"half")
    assert local.names() == ("a",)
    local.delete_all()
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", "a b", "é"])
def test_names_are_no_paths(tmp_path, name):
    with pytest.raises(CheckpointError):
        CheckpointStore(str(tmp_path), name)
    store = CheckpointStore(str(tmp_path), "search")
    for call in (store.load_tensors, store.exists, store.delete, lambda name: store.save_tensors(name, tensors(), {})):
        with pytest.raises(CheckpointError, match="no checkpoint name"):
            call(name)


def test_unknown_protocols_are_said_so():
    with pytest.raises(CheckpointError, match="nowhere://x"):
        CheckpointStore("nowhere://x", "search")
