"""The API on a real database and broker, and searches with tables put there by SQL."""

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, update
from sqlalchemy.orm import Session

from app import queue
from app.db import standalone, tables
from app.db.engine import get_engine, transaction
from app.db.models import PairRow, RoundRow, SearchRow, StepRow
from app.domain.lookup_table import LookupTable
from app.domain.rounds import first_subspace, round_segments
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import SearchSpace, preset
from app.domain.standalone_recipe import label_retraining
from app.domain.subspace import Subspace
from app.embedded.api_endpoint import ApiEndpoint
from app.main import create_app
from app.services import api_keys
from app.services.callers import Scope
from app.settings import Settings, get_settings


@pytest.fixture
def api_settings(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("NASATLAS_DATABASE_URL", database_url)
    monkeypatch.setenv("NASATLAS_BROKER_URL", broker_url)
    get_settings.cache_clear()
    queue._sender.cache_clear()
    yield get_settings()
    get_engine(database_url).dispose()
    get_settings.cache_clear()
    queue._sender.cache_clear()


@pytest.fixture
def client(api_settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(api_settings), raise_server_exceptions=False) as client:
        yield client


@dataclass
class StoredSearch:
    """A search in the database, and what it was made from."""

    id: uuid.UUID
    space: SearchSpace
    config: SearchConfig
    tables: list[LookupTable]


class Keys:
    """Makes API keys for requests: ``client.get(path, headers=keys.of("alice"))``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def secret(self, owner: str = "alice", scope: Scope = "submit", **values: Any) -> str:
        with transaction(self.engine) as session:
            name = values.pop("name", f"{scope} of {owner}")
            return api_keys.create(session, name=name, owner=owner, scopes=[scope], **values).secret

    def of(self, owner: str = "alice", scope: Scope = "submit", **values: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret(owner, scope, **values)}"}


@pytest.fixture
def keys(api_settings: Settings) -> Keys:
    return Keys(get_engine(api_settings.required_database_url()))


@pytest.fixture
def keyed_settings(api_settings: Settings) -> Settings:
    return api_settings.model_copy(update={"authentication": "keys"})


@pytest.fixture
def keyed_client(keyed_settings: Settings, keys: Keys) -> Iterator[TestClient]:
    """The API where callers need keys; somebody has one with the scope admin."""
    keys.secret("root", "admin")
    with TestClient(create_app(keyed_settings), raise_server_exceptions=False) as client:
        yield client


class SearchFactory:
    """Puts searches into the database in any state, with rounds, pairs and published tables."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def search(
        self,
        *,
        space: str = "nas-bench-macro",
        state: str = "succeeded",
        num_tables: int = 1,
        owner: str | None = None,
        **overrides: Any,
    ) -> StoredSearch:
        target = preset(space)
        config = from_preset("quick", {"num_sampled": 40, "num_classes": 10, **overrides}).resolved(target)
        with transaction(self.engine) as session:
            row = SearchRow(
                owner=owner,
                state=state,
                dataset="digits",
                preset="quick",
                search_space=target.model_dump(mode="json"),
                config=config.model_dump(mode="json"),
                num_rounds=config.num_rounds,
                request={"dataset": "digits"},
                finished_at=func.clock_timestamp() if state == "succeeded" else None,
            )
            session.add(row)
            session.flush()
            stored = StoredSearch(row.id, target, config, [])
            for round_index in range(num_tables):
                self._round(session, stored, round_index)
        tables.vacuum(self.engine)
        return stored

    def _round(self, session: Session, stored: StoredSearch, round_index: int) -> None:
        rng = np.random.default_rng(round_index)
        base = first_subspace(stored.space, stored.config).base
        subspace = (
            first_subspace(stored.space, stored.config)
            if round_index == 0
            else Subspace.following(stored.space, [base], round_segments(stored.config)[round_index])
        )
        session.add(RoundRow(search_id=stored.id, round_index=round_index, subspace=subspace.to_dict()))
        multi_adds, _ = subspace.costs()
        noisy = 0.5 + 0.3 * (multi_adds - multi_adds.min()) / np.ptp(multi_adds) + 0.05 * rng.normal(size=subspace.size)
        # rounded, so that many rows are equal
        table = LookupTable.from_predictions(subspace, np.round(noisy, 3).astype(np.float32))
        tables.publish(session, stored.id, round_index, table)
        stored.tables.append(table)
        codes = subspace.codes(table.order[:30])
        session.add_all(
            PairRow(search_id=stored.id, round_index=round_index, source="sampled", code=code, accuracy=0.5)
            for code in codes
        )
        session.add_all(
            PairRow(search_id=stored.id, round_index=round_index, source="reevaluated", code=code, accuracy=0.625)
            for code in codes[:10]
        )

    def labelled(
        self, search: StoredSearch, codes: list[str], truth: list[float], left_out: list[float] | None = None
    ) -> None:
        """What a search's own true labels leave: accuracies, and a corrected table's report."""
        with transaction(self.engine) as session:
            for code, accuracy in zip(codes, truth, strict=True):
                retraining = label_retraining(search.config, code).model_dump(mode="json")
                standalone.add(
                    session,
                    {
                        "job_id": search.id,
                        "search_id": search.id,
                        "code": code,
                        "accuracy": accuracy,
                        "recipe": "small",
                        "network": "proxy",
                        "from_supernet": False,
                        "seed": search.config.seed,
                        "epochs": 20,
                        "retraining": retraining,
                        "artifact": f"{search.id}/standalone-{code}/standalone",
                    },
                )
            if left_out is not None:
                report = {"standalone": {"left_out": dict(zip(codes, left_out, strict=True))}}
                session.execute(update(RoundRow).where(RoundRow.search_id == search.id).values(fit_report=report))

    def step(self, search_id: uuid.UUID, kind: str, **values: Any) -> int:
        with transaction(self.engine) as session:
            row = StepRow(search_id=search_id, kind=kind, **values)
            session.add(row)
            session.flush()
            return row.id

    def change_step(self, step_id: int, **values: Any) -> None:
        with transaction(self.engine) as session:
            session.execute(update(StepRow).where(StepRow.id == step_id).values(**values))

    def change(self, search_id: uuid.UUID, **values: Any) -> None:
        with transaction(self.engine) as session:
            session.execute(update(SearchRow).where(SearchRow.id == search_id).values(**values))


@pytest.fixture
def factory(api_settings: Settings) -> SearchFactory:
    return SearchFactory(get_engine(api_settings.required_database_url()))


@pytest.fixture
def serve_api(api_settings: Settings, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the API as a server of its own, with options of uvicorn's, and return its URL."""
    with ExitStack() as running:

        def serve(*options: str) -> str:
            endpoint = ApiEndpoint.choose("127.0.0.1", None)
            command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:served_app", *options]
            command += ["--host", endpoint.host, "--port", str(endpoint.port), "--timeout-graceful-shutdown", "1"]
            log = running.enter_context((tmp_path / "api.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            running.callback(process.wait, 30)
            running.callback(process.terminate)
            deadline = time.monotonic() + 60
            while not endpoint.is_ready():
                assert process.poll() is None, (tmp_path / "api.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            return endpoint.url

        yield serve
