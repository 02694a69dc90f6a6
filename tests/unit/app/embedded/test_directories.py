import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.embedded.directories import (
    DirectoryLock,
    check_socket_directory,
    give_tree,
    make_socket_directory,
    remove_socket_directory,
)
from app.embedded.errors import DirectoryInUseError, EmbeddedStackError


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path / "lock"), DirectoryLock(tmp_path / "lock")
    assert not first.is_held()
    first.acquire()
    assert second.is_held()
    assert second.holder() == os.getpid()
    with pytest.raises(DirectoryInUseError, match=f"locked by process {os.getpid()}"):
        second.acquire(0.1)
    first.release()
    assert not second.is_held()
    second.acquire()
    second.release()
    second.release()


def test_a_lock_lasts_as_long_as_a_program_that_inherited_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "lock")
    lock.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.fd,)) as program:
        lock.release()
        assert lock.is_held()
        program.kill()
        program.wait()
        assert not lock.is_held()


def test_a_lock_is_not_inherited_by_accident(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "lock")
    lock.acquire()
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, close_fds=False) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"
        lock.release()
        assert not lock.is_held()
        program.kill()


def test_socket_directories_are_private_fresh_and_removed(tmp_path: Path) -> None:
    first, second = make_socket_directory(), make_socket_directory()
    assert first != second
    assert first.stat().st_mode & 0o777 == 0o700
    (second / "left-over").touch()
    for directory in (first, second, first):
        remove_socket_directory(directory)
        assert not directory.exists()


def test_a_long_temporary_directory_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    directory = make_socket_directory()
    assert directory.parent == Path("/tmp")
    assert list(long.iterdir()) == []
    remove_socket_directory(directory)


def test_only_our_own_socket_directories_are_removed(tmp_path: Path) -> None:
    # stack.json is a file that somebody may have edited.
    other = tmp_path / "precious"
    other.mkdir()
    link = tmp_path / "nasatlas-link"
    link.symlink_to(other)
    for path in (other, link):
        remove_socket_directory(path)
        assert path.exists()


@pytest.mark.parametrize(("length", "fits"), [(93, True), (94, False)])
def test_socket_paths_have_107_bytes(length: int, fits: bool) -> None:
    directory = Path("/" + "x" * (length - 1))
    assert (len(str(directory / ".s.PGSQL.5432")) <= 107) == fits
    if fits:
        check_socket_directory(directory)
    else:
        with pytest.raises(EmbeddedStackError, match="at most 107"):
            check_socket_directory(directory)


def test_a_tree_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    give_tree(tmp_path, os.geteuid(), os.getegid())
    assert (tmp_path / "inner").stat().st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_whole_tree_changes_its_owner_but_not_what_links_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").touch()
    (tree / "link").symlink_to(outside)
    give_tree(tree, 65534, 65534)
    assert {path.lstat().st_uid for path in (tree, *tree.rglob("*"))} == {65534}
    assert outside.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give everything away")
def test_giving_away_without_the_right_to_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStackError, match="choose another NASATLAS_STATE_DIR"):
        give_tree(tmp_path, os.geteuid() + 1, os.getegid())
