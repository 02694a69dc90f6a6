"""Requests that no caller should make, each of which has to be refused with a reason."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.domain.search_space import preset

SQL = (
    "'; drop table searches; --",
    '" or "1"="1',
    "1) or (1=1",
    "%s %(x)s :x $1",
    "\\'; select pg_sleep(60)--",
    "$$;$$",
)
PATHS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "~root",
    "a/../../b",
    "%2e%2e%2fetc",
    "C:\\x",
    "file:///etc/passwd",
    "x\0y",
)
HUB = ("hub:../../x", "hub:a/b/c", "hub:", "hub:a", "hub:http://x/y", "hub:a/..")
UNKNOWN = "00000000-0000-0000-0000-000000000000"
JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """A request that has to be refused.

    Attributes:
        what: What is wrong with it.
        method: Of HTTP.
        path: With its query.
        body: What is sent.
        headers: What is sent before it.
    """

    what: str
    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def posted(what: str, body: Any, **headers: str) -> Request:
    """Return a submission of a search; bytes are sent as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(what, "POST", "/search", data, {"Content-Type": JSON, **headers})


def all_requests() -> Iterator[Request]:
    """Yield them all."""
    yield from _names()
    yield from _bodies()
    yield from _numbers()
    yield from _spaces()
    yield from _queries()
    yield from _headers()


def _names() -> Iterator[Request]:
    for text in (*SQL, *PATHS, *HUB, "", "x" * 10_000, "\u202e", "\ufeffdigits"):
        yield posted(f"data set {text[:20]!r}", {"dataset": text})
    for text in (*SQL, *PATHS):
        yield posted(f"search space {text!r}", {"dataset": "digits", "search_space": text})
        yield posted(f"initial architecture {text!r}", {"dataset": "digits", "initial_architecture": text})
        yield posted(f"preset {text!r}", {"dataset": "digits", "preset": text})
        yield posted(f"field {text!r}", {"dataset": "digits", text: 1})


def _bodies() -> Iterator[Request]:
    whole = json.dumps({"dataset": "digits"}).encode()
    for what, data in {
        "nothing": b"",
        "half of it": whole[:10],
        "no JSON": b"dataset=digits",
        "a list": b"[]",
        "null": b"null",
        "other bytes": b"\xff\xfe\x00",
        "a lone surrogate": b'{"dataset": "\\ud800"}',
        "a null character": b'{"dataset": "digits\\u0000"}',
        "100,000 brackets": b"[" * 100_000,
        "100,000 objects": b'{"dataset":' * 90_000,
        "a field twice over, then none": b'{"dataset": "digits", "dataset": null}',
        "a number of 100,000 digits": b'{"dataset": "digits", "seed": ' + b"9" * 100_000 + b"}",
        "NaN": b'{"dataset": "digits", "learning_rate": NaN}',
        "infinity": b'{"dataset": "digits", "learning_rate": 1e999}',
        "two megabytes": b'{"dataset": "' + b"x" * 2**21 + b'"}',
        "XML": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        "a pickle": b"\x80\x04\x95cos\nsystem\n",
    }.items():
        yield posted(f"body: {what}", data)
    yield Request("body of no type", "POST", "/search", whole, {"Content-Type": "text/plain"})


def _numbers() -> Iterator[Request]:
    fields = (
        "epochs",
        "batch_size",
        "num_images",
        "num_sampled",
        "num_rounds",
        "proxy_resolution",
        "num_classes",
        "seed",
    )
    for name in (*fields, "gcn_epochs", "num_reevaluated", "num_preserved", "num_calibration_images", "learning_rate"):
        for value in (-1, 2**63, 10**30, "1; select 1", [1], {"$gt": 0}):
            yield posted(f"{name}={value}", {"dataset": "digits", name: value})
    yield posted("a million segments", {"dataset": "digits", "segments": [[0]] * 100_000})
    yield posted("segments that are none", {"dataset": "digits", "segments": [[], [10**9], [-1]]})
    yield posted("hidden layers beyond any machine", {"dataset": "digits", "gcn_hidden_sizes": [10**9, 10**9]})


def _spaces() -> Iterator[Request]:
    whole = preset("nas-bench-macro").model_dump(mode="json")
    choices = [{"kernel_size": k, "expansion": e} for k in (3, 5, 7, 9, 11) for e in (15, 16)]
    cell = {"out_channels": 4096, "choices": choices}
    pairs = [[i, i + 1] for i in range(0, 64, 2)]
    small = {"num_sampled": 12, "num_held_out": 2, "num_reevaluated": 6, "num_preserved": 2, "proxy_width": 1.0}
    for what, changes, config in (
        ("343 billion parameters", {"cells": [cell] * 64, "default_segments": pairs}, small),
        ("a table of 10^10 rows", {"cells": [cell] * 10, "default_segments": [[*range(10)]]}, {}),
        ("10,000 cells", {"cells": [cell] * 10_000}, {}),
        ("1,000 choices", {"cells": [{"out_channels": 8, "choices": choices * 100}]}, {}),
        ("10^9 channels", {"cells": [{**cell, "out_channels": 10**9}] * 2}, {}),
        ("an input of 10^6 pixels", {"input_resolution": 10**6}, {}),
        ("no cells", {"cells": []}, {}),
        ("a kernel of 1,001", {"cells": [{"out_channels": 8, "choices": [{"kernel_size": 1001}]}] * 2}, {}),
        ("a name of SQL", {"name": SQL[0]}, {}),
        ("an unknown field", {"__class__": "os.system"}, {}),
    ):
        yield posted(f"space with {what}", {"dataset": "digits", "search_space": {**whole, **changes}, **config})


def cursor(text: str) -> str:
    """Return a cursor as the service would write it."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def _queries() -> Iterator[Request]:
    for text in (
        "%27%3B%20drop%20table%20searches--",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "1e400",
        "nan",
        "-1",
        "x" * 4000,
    ):
        for path in (
            "/lookup?max_madds=",
            "/lookup?search_id=",
            "/lookup?round_index=",
            "/lookup?limit=",
            "/lookup?scope=",
        ):
            yield Request(f"{path}{text[:20]}", "GET", path + text)
        yield Request(f"search {text[:20]}", "GET", f"/search/{text}")
        yield Request(f"cursor {text[:20]}", "GET", f"/search?cursor={text}")
        yield Request(f"state {text[:20]}", "GET", f"/search?state={text}")
        yield Request(f"parameter {text[:20]}", "GET", f"/search?{text}=1")
        yield Request(f"architecture {text[:20]}", "GET", f"/search/{UNKNOWN}/architectures/{text}")
    for text in (
        ">i:1~s:a~s:b",
        f">dt:9999999-01-01~uuid:{UNKNOWN}",
        ">x:1",
        "<<>>",
        ">" * 500,
        ">dt:nan~uuid:x",
        ">i:" + "9" * 400,
    ):
        yield Request(f"forged cursor {text[:20]}", "GET", f"/search?cursor={cursor(text)}")
    for method, path in (("DELETE", "/search"), ("PUT", "/lookup"), ("TRACE", "/search"), ("BREW", "/search")):
        yield Request(f"{method} {path}", method, path)


def _headers() -> Iterator[Request]:
    body = {"dataset": "digits"}
    yield posted("idempotency key of SQL", body, **{"Idempotency-Key": SQL[0]})
    yield posted("idempotency key of 10,000 letters", body, **{"Idempotency-Key": "k" * 10_000})
    yield posted("from another site's page", body, Origin="https://evil.example")
    yield posted("from another site's page, said by the browser", body, **{"Sec-Fetch-Site": "cross-site"})
    yield Request("under another's name (DNS rebinding)", "GET", "/search", None, {"Host": "evil.example"})
