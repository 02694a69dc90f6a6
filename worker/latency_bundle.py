"""Writes the bundle that measures a target: ``python -m worker.latency_bundle OUTPUT < SPACE.json``.

The search space is JSON on the standard input: an object, or the name of a preset.
"""

import json
import sys
from pathlib import Path

from app.domain.search_space import SearchSpace, preset
from worker.nas.latency_models import bundle


def main() -> None:
    """Read the space and write the archive."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.latency_bundle OUTPUT < SPACE.json")
    given = json.load(sys.stdin)
    try:
        space = preset(given) if isinstance(given, str) else SearchSpace.model_validate(given)
        Path(sys.argv[1]).write_bytes(bundle(space))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
