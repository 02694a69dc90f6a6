"""Input that means harm, against a whole running service: requests, data sets, and checkpoints that somebody changed.

    python -m benchmarks.hostile       (the same with FULL=1 in the environment)

Every case has to end in a clear error: a problem (4xx) that says what is wrong, or a failed search whose reason does.
A 5xx, a connection that ends without an answer, or a worker that dies is a crash; an answer that takes more than 20 s,
or a search that does not end, a hang. Odd but honest data sets (CMYK, 16 bits, animations) have to be accepted. After
all of it a search must give the same table as before, every stored search must still be there, and no worker may have
died. The last line of the output is one JSON object.
"""

import http.client
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import save as save_safetensors

from app.embedded.process_table import descendants
from app.embedded.stack import Stack
from benchmarks._hostile_files import ACCEPTED, REFUSED
from benchmarks._hostile_requests import JSON, all_requests
from worker.nas.checkpoint import _DIGEST_KEY, CheckpointStore, _digest

SETTINGS = {"LEASE_S": 10, "HEARTBEAT_S": 0.3, "REAP_S": 1.0, "REWAKE_S": 3.0, "SHARD_SIZE": 10}
REQUEST_TIMEOUT_S = 20.0
SEARCH_TIMEOUT_S = 180.0
SEARCH: dict[str, Any] = {
    "dataset": "digits",
    "search_space": "nas-bench-macro",
    "segments": [[0, 1, 2, 3], [4, 5, 6, 7]],
    "num_images": 60,
    "proxy_resolution": 8,
    "proxy_width": 0.05,
    "epochs": 1,
    "batch_size": 10,
    "num_sampled": 20,
    "num_calibration_images": 20,
    "gcn_hidden_sizes": [16, 16],
    "gcn_epochs": 40,
    "num_reevaluated": 6,
    "num_preserved": 2,
}
INTERNALS = ("Traceback", "psycopg", "sqlalchemy", "site-packages", '.py"', "0x7f")
"""What no answer may show."""

Answer = tuple[int, dict[str, Any]]


@dataclass
class Attack:
    """A service under attack, and what became of each case.

    Attributes:
        stack: The service, with one worker.
        root: Its data root.
        ends: How many cases ended how.
        wrong: Cases that did not end as they should, with what happened.
    """

    stack: Stack
    root: Path
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask the service something sensible, or at least well-formed."""
        data = None if body is None else json.dumps(body).encode()
        return send(self.stack.url, method, path, data, {"Content-Type": JSON} if data else {})

    def note(self, what: str, end: str, detail: object = "") -> None:
        """Count how a case ended."""
        self.ends[end] += 1
        if end not in ("clear error", "accepted"):
            self.wrong.append(f"{what}: {end}: {str(detail)[:300]}")
            print(f"  {self.wrong[-1]}", flush=True)

    def ended(self, search_id: str) -> dict[str, Any] | None:
        """Wait until a search is over and return it; None if it does not end."""
        deadline = time.monotonic() + SEARCH_TIMEOUT_S
        while time.monotonic() < deadline:
            search = self.ask("GET", f"/search/{search_id}")[1]
            if search["state"] in ("succeeded", "failed", "cancelled"):
                return search
            time.sleep(0.2)
        return None

    def children(self) -> set[int]:
        """Return the worker's children that do the work."""
        found = set()
        for pid in descendants(self.stack.pid("worker")):
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"spawn_main" in command.read_bytes():
                found.add(pid)
        return found


def send(url: str, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
    """Send a request exactly as it is given, and return the answer's status and JSON (or its text as ``detail``)."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=REQUEST_TIMEOUT_S)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        content = {"detail": text}
    return answer.status, content if isinstance(content, dict) else {"detail": text}


def main() -> None:
    """Attack, and print the figures."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nasatlas-hostile-") as directory:
        root = Path(directory) / "data"
        root.mkdir()
        values = {**SETTINGS, "DATA_ROOT": root}
        os.environ |= {f"NASATLAS_{name}": str(value) for name, value in values.items()}
        with Stack(Path(directory) / "state") as stack:
            figures = run(Attack(stack, root))
    print(json.dumps(figures | {"seconds": round(time.monotonic() - started), "full": os.environ.get("FULL") == "1"}))


def run(attack: Attack) -> dict[str, Any]:
    """Run all cases; return the figures."""
    before = finished_search(attack)
    children = attack.children()
    requests(attack)
    data_sets(attack)
    died = len(children - attack.children())
    poisoned_checkpoints(attack)
    after = finished_search(attack)
    lost = sum(attack.ask("GET", f"/search/{search['id']}")[0] != 200 for search in (before, after))
    lost += tables(before) != tables(after)
    return {
        "tried": attack.ends.total(),
        "clear_errors": attack.ends["clear error"],
        "accepted": attack.ends["accepted"],
        "crashes": attack.ends["crash"] + died,
        "hangs": attack.ends["hang"],
        "unclear": attack.ends["unclear"],
        "lost": lost,
        "wrong": attack.wrong,
    }


def finished_search(attack: Attack) -> dict[str, Any]:
    """Run a search that nothing is wrong with."""
    status, search = attack.ask("POST", "/search", SEARCH)
    found = attack.ended(search["id"]) if status == 202 else None
    if found is None or found["state"] != "succeeded":
        raise SystemExit(f"an honest search does not succeed: {found or search}")
    return found


def tables(search: dict[str, Any]) -> list[str]:
    """Return the digests of a search's tables."""
    return [one["table_digest"] for one in search["rounds"]]


def requests(attack: Attack) -> None:
    """Send the requests that have to be refused."""
    for request in all_requests():
        try:
            status, answer = send(attack.stack.url, request.method, request.path, request.body, request.headers)
        except TimeoutError:
            attack.note(request.what, "hang")
        except (OSError, http.client.HTTPException) as error:
            attack.note(request.what, "crash", error)
        else:
            attack.note(request.what, end_of(status, answer), (status, answer))
            if status == 202:  # it should not have been, and would keep the worker from the next cases
                attack.ask("POST", f"/search/{answer['id']}/cancel")
    print(f"requests: {dict(attack.ends)}", flush=True)


def end_of(status: int, answer: dict[str, Any]) -> str:
    """How a request that has to be refused ended."""
    if status >= 500:
        return "crash"
    detail = str(answer.get("detail", ""))
    is_clear = 400 <= status < 500 and detail and not any(text in json.dumps(answer) for text in INTERNALS)
    return "clear error" if is_clear else "unclear"


def data_sets(attack: Attack) -> None:
    """Submit searches on the data sets that no search may run on, and on the odd ones that one must."""
    submitted: list[tuple[str, str, str]] = []
    cases = [(what, make, "failed") for what, make in REFUSED.items()]
    cases += [(what, make, "succeeded") for what, make in ACCEPTED.items()]
    for number, (what, make, expected) in enumerate(cases):
        make(attack.root / f"set{number}")
        try:
            status, answer = attack.ask("POST", "/search", SEARCH | {"dataset": f"set{number}", "num_images": None})
        except TimeoutError:
            attack.note(what, "hang")
            continue
        except (OSError, http.client.HTTPException) as error:
            attack.note(what, "crash", error)
            continue
        if status == 202:
            submitted.append((what, answer["id"], expected))
        else:
            attack.note(what, end_of(status, answer) if expected == "failed" else "unclear", (status, answer))
    for what, search_id, expected in submitted:
        search_ended(attack, what, search_id, expected)
    print(f"with data sets: {dict(attack.ends)}", flush=True)


def search_ended(attack: Attack, what: str, search_id: str, expected: str) -> None:
    """Wait for a search, and count how it ended."""
    search = attack.ended(search_id)
    if search is None:
        attack.note(what, "hang")
    elif search["state"] != expected:
        attack.note(what, "unclear", f"the search has {search['state']} ({search['error']})")
    elif expected == "succeeded":
        attack.note(what, "accepted")
    else:
        reason = search["error"] or ""
        died = "died" in reason
        attack.note(what, "crash" if died else end_of(422, {"detail": reason}), reason)


def poisoned_checkpoints(attack: Attack) -> None:
    """Change the supernet's checkpoint of a search under way in every way; with the old one it must go on."""
    body = SEARCH | {"num_sampled": 60, "seed": 1}
    search_id = attack.ask("POST", "/search", body)[1]["id"]
    while not attack.ask("GET", f"/search/{search_id}")[1]["rounds"][0]["num_sampled"]:
        time.sleep(0.05)
    attack.ask("POST", f"/search/{search_id}/cancel")
    attack.ended(search_id)
    artifacts = attack.stack.state_dir / "artifacts"
    store = CheckpointStore(f"file://{artifacts}", search_id)
    (name,) = [name for name in store.names() if name.startswith("supernet")][-1:]
    path = artifacts / search_id / f"{name}.safetensors"
    whole = path.read_bytes()
    for what, poison in POISONS.items():
        path.write_bytes(poison(store, name, whole))
        forget_supernet(attack)
        attack.ask("POST", f"/search/{search_id}/resume")
        search_ended(attack, f"a checkpoint {what}", search_id, "failed")
        path.write_bytes(whole)
    attack.ask("POST", f"/search/{search_id}/resume")
    search_ended(attack, "the checkpoint as it was", search_id, "succeeded")
    print(f"with checkpoints: {dict(attack.ends)}", flush=True)


def forget_supernet(attack: Attack) -> None:
    """Let the worker work on another search, so that it has to read the checkpoint again."""
    finished_search(attack)


Poison = Callable[[CheckpointStore, str, bytes], bytes]


def _with_tensors(change: Callable[[torch.Tensor], torch.Tensor], *, digest: bool = True) -> Poison:
    """Return what changes the weights, and writes a digest that fits them."""

    def poison(store: CheckpointStore, name: str, whole: bytes) -> bytes:
        tensors, texts = store.load_tensors(name)
        changed = {key: change(value) for key, value in tensors.items()}
        return save_safetensors(changed, {**texts, _DIGEST_KEY: _digest(changed)} if digest else texts)

    return poison


def _not_a_number(values: torch.Tensor) -> torch.Tensor:
    return torch.full_like(values, float("nan")) if values.is_floating_point() else values


POISONS: dict[str, Poison] = {
    "of NaN with a digest that fits": _with_tensors(_not_a_number),
    "of other shapes": _with_tensors(lambda values: values.reshape(-1)[:1].clone()),
    "without a digest": _with_tensors(lambda values: values, digest=False),
    "of changed weights": lambda store, name, whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "cut in half": lambda store, name, whole: whole[: len(whole) // 2],
    "of nothing": lambda store, name, whole: b"",
    "that is a pickle": lambda store, name, whole: b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR.",
    "with a header of 2^63 bytes": lambda store, name, whole: (2**63).to_bytes(8, "little") + whole[8:],
    "with a header of brackets": lambda store, name, whole: (10**5).to_bytes(8, "little") + b"[" * 10**5,
}


if __name__ == "__main__":
    main()
