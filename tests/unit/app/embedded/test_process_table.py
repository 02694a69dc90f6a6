import os
import subprocess
import sys
from pathlib import Path

from app.embedded.process_table import descendants, is_alive, read_process, session_members, works_in


def test_a_program_with_an_awkward_name_is_read(tmp_path: Path) -> None:
    name = tmp_path / "a) S 1 (b"
    name.symlink_to("/bin/sleep")
    with subprocess.Popen([str(name), "1000"], cwd=tmp_path, start_new_session=True) as program:
        entry = read_process(program.pid)
        assert entry is not None
        assert (entry.parent_pid, entry.session_id) == (os.getpid(), program.pid)
        assert program.pid in descendants(os.getpid())
        assert session_members(program.pid) == [program.pid]
        assert works_in(program.pid, tmp_path)
        assert not works_in(program.pid, tmp_path.parent)
        program.kill()


def test_zombies_and_the_gone_are_not_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        entry = read_process(program.pid)
        assert entry is not None
        assert entry.state == "Z"
        assert not is_alive(program.pid)
    assert read_process(program.pid) is None
    assert not is_alive(program.pid)
    assert not works_in(program.pid, Path("/"))
    assert is_alive(os.getpid())
