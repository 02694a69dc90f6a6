import dataclasses
import os
from pathlib import Path

import pytest

from app.embedded.running_stack import (
    RunningStack,
    find_running_stack,
    read_stack_file,
    remove_stack_file,
    stack_lock,
)

_STACK = RunningStack(
    os.getpid(), "http://127.0.0.1:1", "postgresql+psycopg://", "redis+socket:///x", "/tmp/nasatlas-x"
)


def test_a_stack_is_found_while_its_owner_lives_and_holds_the_lock(tmp_path: Path) -> None:
    assert find_running_stack(tmp_path) is None
    _STACK.write(tmp_path)
    assert find_running_stack(tmp_path) is None, "nobody holds the lock"
    lock = stack_lock(tmp_path)
    lock.acquire()
    assert find_running_stack(tmp_path) == _STACK
    dataclasses.replace(_STACK, pid=2**22 + 1).write(tmp_path)
    assert find_running_stack(tmp_path) is None, "its owner is dead"
    lock.release()
    remove_stack_file(tmp_path)
    remove_stack_file(tmp_path)
    assert read_stack_file(tmp_path) is None


def test_the_file_is_private_and_whole(tmp_path: Path) -> None:
    _STACK.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": 1}', '{"surprise": 1}'])
def test_a_broken_file_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    assert read_stack_file(tmp_path) is None
