"""Runs every benchmark, one after the other, and prints a table of the figures: ``python -m benchmarks [NAME ...]``.

Quick sizes by default; with ``FULL=1`` those of the README, and the table is written there.
"""

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import _readme


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; return 1 if one of them failed."""
    known = sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if not m.name.startswith("_"))
    if unknown := sorted(set(names) - set(known)):
        print(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    results = {name: run(name) for name in names or known}
    measured = {name: figures for name, figures in results.items() if figures is not None}
    print(_readme.table(measured))
    if os.environ.get("FULL") == "1":
        _readme.write({name: figures for name, figures in measured.items() if "skipped" not in figures})
    if failed := [name for name, figures in results.items() if figures is None]:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(len(measured) < len(results))


def run(name: str) -> dict[str, Any] | None:
    """Run one benchmark, show what it says, and return its figures; None where it failed."""
    print(f"== {name}", flush=True)
    # a process each: peak memory and thread settings of one must not reach the next
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line
    if process.returncode:
        return None
    figures: dict[str, Any] = json.loads(last)
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
