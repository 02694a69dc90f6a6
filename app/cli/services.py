"""Commands that run the service: the whole of it on this machine, or a worker for one elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import Notices, answers, print_json
from app.cli.errors import FAILED, UNREACHABLE, USAGE, CommandError
from app.cli.options import AsJson
from app.embedded.errors import EmbeddedStackError
from app.embedded.running_stack import find_running_stack
from app.embedded.stack import Stack
from app.settings import Settings, get_settings

DEFAULT_PORT = 8000


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = DEFAULT_PORT,
    as_json: AsJson = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C: database, broker, API, worker."""
    settings, notices = get_settings(), Notices()
    try:
        with Stack(settings.state_dir, api_host=host, api_port=port or None, on_phase=notices.phase) as stack:
            if as_json:
                print_json({"url": stack.url, "state_dir": str(stack.state_dir)})
            else:
                answers().print(
                    f"{stack.url} (the API: {stack.url}/docs)\ndata in {stack.state_dir}; Ctrl-C stops everything"
                )
            failures = stack.wait()
            raise CommandError(FAILED, "\n".join(map(str, failures)))
    except EmbeddedStackError as error:
        raise CommandError(UNREACHABLE, str(error)) from error


def worker(
    children: Annotated[
        int | None, typer.Option(min=1, max=64, help="Steps at a time; default: one per GPU, or one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Work on the steps of searches, for the service at NASATLAS_DATABASE_URL and NASATLAS_BROKER_URL."""
    settings = get_settings()
    environment = os.environ | _addresses(settings)
    concurrency = children or max(1, num_gpus())
    if as_json:
        print_json({"broker": True, "concurrency": concurrency})
    # -P: a directory named app or worker where the user happens to be must not shadow ours
    command = [sys.executable, "-P", "-m", "celery", "-A", "worker.celery_app", "worker"]
    command += ["--pool", "prefork", "--concurrency", str(concurrency), "--loglevel", settings.log_level]
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own program, no shell


def _addresses(settings: Settings) -> dict[str, str]:
    """Where database and broker are: as configured, or those of the stack that runs on the state directory."""
    if settings.database_url is not None and settings.broker_url is not None:
        return {}
    running = find_running_stack(settings.state_dir)
    if running is None:
        raise CommandError(
            USAGE,
            "a worker needs NASATLAS_DATABASE_URL and NASATLAS_BROKER_URL, or a `nasatlas serve` on the same "
            f"NASATLAS_STATE_DIR ({settings.state_dir.absolute()})",
        )
    return {
        "NASATLAS_DATABASE_URL": running.database_url,
        "NASATLAS_BROKER_URL": running.broker_url,
        "NASATLAS_ARTIFACT_URL": settings.artifacts(),
    }


def num_gpus() -> int:
    """How many GPUs this process may use; asked of the driver, since this program has no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    if Path("/proc/driver/nvidia/gpus").is_dir():
        return len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
