"""A server with open event streams, told to end: the streams end at once and in order."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import httpx2

from app.embedded.api_endpoint import ApiEndpoint
from app.settings import Settings


def test_streams_do_not_hold_up_the_end(api_settings: Settings, factory: Any) -> None:
    search = factory.search(state="running", num_tables=0)
    endpoint = ApiEndpoint.choose("127.0.0.1", None)
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:served_app", "--port", str(endpoint.port)]
    server = subprocess.Popen(
        command, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        while not endpoint.is_ready():
            assert server.poll() is None
            time.sleep(0.1)
        with httpx2.stream("GET", f"{endpoint.url}/search/{search.id}/events", timeout=60, trust_env=False) as response:
            lines = response.iter_lines()
            assert next(lines) == "event: state"
            server.send_signal(signal.SIGTERM)
            # without our own listening, uvicorn would wait for this stream for ever, and so would we
            rest = list(lines)
        assert rest
        output, _ = server.communicate(timeout=60)
        assert server.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in output
        assert "Cancel" not in output
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()
