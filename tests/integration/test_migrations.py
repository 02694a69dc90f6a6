"""Migrations: up and down, also with rows in the tables, and the models say the same as the schema."""

import datetime as dt
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pytest_alembic.config import Config as PytestAlembicConfig
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine, MetaData, Table, create_engine, func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from app.db.engine import get_engine, transaction
from app.db.migrate import alembic_config as make_alembic_config
from app.db.migrate import is_current, migrate
from app.db.models import Base, LookupRow, LookupTableRow, PairRow, RoundRow, SearchRow, StandaloneAccuracyRow, StepRow
from tests.conftest import DatabaseServer

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


@pytest.fixture
def alembic_engine(empty_database_url: str) -> Iterator[Engine]:
    engine = create_engine(empty_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def alembic_config(empty_database_url: str) -> PytestAlembicConfig:
    return PytestAlembicConfig(alembic_config=make_alembic_config(empty_database_url))


def add_one_row_of_everything(engine: Engine) -> None:
    with transaction(engine) as session:
        search = SearchRow(
            dataset="digits", preset="quick", search_space={}, config={}, num_rounds=1, request={}, state="running"
        )
        session.add(search)
        session.flush()
        job = SearchRow(
            kind="retraining",
            origin_id=search.id,
            dataset="digits",
            preset="quick",
            search_space={},
            config={},
            num_rounds=0,
            request={},
        )
        table = LookupTableRow(
            search_id=search.id,
            round_index=0,
            num_rows=1,
            digest="d",
            min_multi_adds=1,
            max_multi_adds=2**40,
            min_params=1,
            max_params=1,
        )
        session.add_all(
            [
                RoundRow(search_id=search.id, round_index=0, subspace={}),
                StepRow(search_id=search.id, kind="train_supernet"),
                PairRow(search_id=search.id, round_index=0, source="sampled", code="0", accuracy=0.5),
                table,
                job,
            ]
        )
        session.flush()
        session.add(
            StandaloneAccuracyRow(
                job_id=job.id,
                search_id=search.id,
                code="0",
                accuracy=0.5,
                recipe="small",
                network="proxy",
                from_supernet=False,
                seed=0,
                epochs=1,
                retraining={},
                artifact="a",
            )
        )
        session.add(LookupRow(table_id=table.id, subspace_index=0, predicted_accuracy=0.5, multi_adds=2**40, params=1))


def tables_of(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_down_and_up_again_with_rows_in_the_tables(alembic_engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    assert tables_of(alembic_engine) == set(Base.metadata.tables)
    add_one_row_of_everything(alembic_engine)
    command.downgrade(make_alembic_config(empty_database_url), "base")
    assert tables_of(alembic_engine) == set()
    migrate(empty_database_url)
    with transaction(alembic_engine) as session:
        assert session.execute(select(func.count()).select_from(SearchRow)).scalar_one() == 0
    add_one_row_of_everything(alembic_engine)


def values_for(table: Table, search_id: uuid.UUID) -> dict[str, Any]:
    """A value for every column of a table, by its type, as whatever version of the schema has it."""
    known: dict[str, Any] = {
        "search_id": search_id,
        "state": "done" if table.name == "steps" else "succeeded",
        "kind": "train_supernet" if table.name == "steps" else "search",
        "source": "sampled",
        "origin": "uploaded",
        "scopes": ["read"],
    }
    by_type: dict[type, Any] = {
        uuid.UUID: search_id,
        str: f"text of {table.name}",
        object: {"number": [1, None, "text"]},
        bool: True,
        int: 3,
        float: 0.5,
        bytes: b"\0\xff",
        dt.datetime: dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        list: ["read"],
    }
    values = {c.name: known.get(c.name, by_type[c.type.python_type]) for c in table.columns}
    if table.name == "searches" and values.get("origin_id") is not None:
        values["origin_id"] = None
    return values


REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(make_alembic_config("")).walk_revisions()))
]


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgrade_keeps_every_row_of_every_version(
    alembic_engine: Engine, empty_database_url: str, revision: str
) -> None:
    """Rows in all tables of an older schema, with a value in each column: none is lost or changed on the way up."""
    migrate(empty_database_url, revision)
    before, search_id = MetaData(), uuid.uuid4()
    before.reflect(alembic_engine)
    stored: dict[str, dict[str, Any]] = {}
    with alembic_engine.begin() as connection:
        for table in before.sorted_tables:
            if table.name != "alembic_version":
                stored[table.name] = values_for(table, search_id)
                connection.execute(table.insert(), stored[table.name])
    assert {"searches", "steps", "rounds", "pairs", "lookup_tables", "lookup_rows"} <= set(stored)
    migrate(empty_database_url)
    after = MetaData()
    after.reflect(alembic_engine)
    with alembic_engine.connect() as connection:
        for name, values in stored.items():
            (row,) = connection.execute(select(after.tables[name])).mappings()
            assert {column: row[column] for column in values} == values, name


def test_migrating_twice_changes_nothing(alembic_engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    migrate(empty_database_url)
    with transaction(alembic_engine) as session:
        assert session.execute(select(func.count()).select_from(SearchRow)).scalar_one() == 2


def test_two_processes_that_start_together_do_not_migrate_together(
    alembic_engine: Engine, empty_database_url: str
) -> None:
    """Two connections at once, as two containers would: Alembic's context is one per process, so each has its own."""
    script = (
        "import sys\nfrom app.db.migrate import migrate\n"
        "try:\n    migrate(sys.argv[1])\nexcept Exception as error:\n    sys.exit(str(error))\n"
    )

    def start(_: int) -> int:
        return subprocess.run([sys.executable, "-c", script, empty_database_url], check=False).returncode

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(start, range(2))) == [0, 0]
    assert is_current(alembic_engine)


def test_is_current(alembic_engine: Engine, empty_database_url: str) -> None:
    assert not is_current(alembic_engine)
    migrate(empty_database_url)
    assert is_current(alembic_engine)


def test_deleting_a_search_deletes_what_belongs_to_it(alembic_engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    with transaction(alembic_engine) as session:
        session.delete(session.scalars(select(SearchRow).where(SearchRow.kind == "search")).one())
    with transaction(alembic_engine) as session:
        for table in (RoundRow, StepRow, PairRow, LookupTableRow, StandaloneAccuracyRow, SearchRow):
            assert session.execute(select(func.count()).select_from(table)).scalar_one() == 0


def test_the_older_schema_keeps_searches_and_knows_no_jobs(alembic_engine: Engine, empty_database_url: str) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    with transaction(alembic_engine) as session:
        job_id = session.scalars(select(SearchRow.id).where(SearchRow.kind == "retraining")).one()
        session.add(StepRow(search_id=job_id, kind="train_standalone"))
    command.downgrade(make_alembic_config(empty_database_url), "0003")
    with alembic_engine.connect() as connection:
        assert connection.execute(text("select count(*) from searches")).scalar_one() == 1
        assert connection.execute(text("select kind from steps")).scalars().all() == ["train_supernet"]
    migrate(empty_database_url)
    with transaction(alembic_engine) as session:
        assert session.scalars(select(SearchRow.kind)).all() == ["search"]


def test_the_older_schema_knows_no_uploads_and_not_their_searches(
    alembic_engine: Engine, empty_database_url: str
) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    with transaction(alembic_engine) as session:
        kept, read = session.scalars(select(SearchRow.id).order_by(SearchRow.kind.desc())).all()
        session.execute(update(SearchRow).where(SearchRow.id == read).values(upload_id=uuid.uuid4()))
    command.downgrade(make_alembic_config(empty_database_url), "0005")
    with alembic_engine.connect() as connection:
        assert connection.execute(text("select id from searches")).scalars().all() == [kept]
    migrate(empty_database_url)


def test_the_older_schema_fits_rounds_again_that_are_at_their_true_labels(
    alembic_engine: Engine, empty_database_url: str
) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    with transaction(alembic_engine) as session:
        search_id = session.scalars(select(SearchRow.id).where(SearchRow.kind == "search")).one()
        job_id = session.scalars(select(SearchRow.id).where(SearchRow.kind == "retraining")).one()
        session.add(StepRow(search_id=job_id, kind="train_standalone"))
        done = [(0, "fit_gcn"), (0, "train_standalone"), (0, "correct_predictions"), (0, "advance"), (1, "fit_gcn")]
        session.add_all(StepRow(search_id=search_id, round_index=t, kind=kind, state="done") for t, kind in done)
        session.add(StepRow(search_id=search_id, round_index=1, kind="train_standalone", state="leased"))
    command.downgrade(make_alembic_config(empty_database_url), "0008")
    with alembic_engine.connect() as connection:
        found = connection.execute(text("select kind, round_index, state from steps order by id")).all()
    assert [tuple(row) for row in found] == [
        ("train_supernet", None, "ready"),
        ("train_standalone", None, "ready"),
        ("fit_gcn", 0, "done"),
        ("advance", 0, "done"),
        ("fit_gcn", 1, "ready"),
    ]
    migrate(empty_database_url)


@pytest.mark.parametrize(
    ("kind", "has_origin"), [("retraining", False), ("export", False), ("search", True), ("other", True)]
)
def test_jobs_have_an_origin_and_searches_have_none(
    alembic_engine: Engine, empty_database_url: str, kind: str, *, has_origin: bool
) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    changed = {"kind": kind} if has_origin else {"kind": kind, "origin_id": None}
    change = update(SearchRow).where(SearchRow.kind == "retraining").values(**changed)
    with (
        pytest.raises(IntegrityError, match=r"jobs_have_an_origin|job_kind_known"),
        transaction(alembic_engine) as session,
    ):
        session.execute(change)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (StepRow, {"kind": "unknown"}),
        (StepRow, {"kind": "advance", "state": "unknown"}),
        (PairRow, {"round_index": 0, "source": "unknown", "code": "0", "accuracy": 0.5}),
    ],
)
def test_unknown_states_are_refused(
    alembic_engine: Engine, empty_database_url: str, table: type[Base], values: dict[str, object]
) -> None:
    migrate(empty_database_url)
    add_one_row_of_everything(alembic_engine)
    with transaction(alembic_engine) as session:
        search_id = session.scalars(select(SearchRow.id).where(SearchRow.kind == "search")).one()
    with pytest.raises(IntegrityError, match="_known"), transaction(alembic_engine) as session:
        session.add(table(search_id=search_id, **values))


def test_a_database_without_an_encoding_serves_text(database_server: DatabaseServer) -> None:
    """As `initdb` without a locale makes it: SQL_ASCII, from which psycopg reads bytes unless told otherwise."""
    name = database_server.create(encoding="SQL_ASCII")
    try:
        url = database_server.url_of(name)
        migrate(url)
        engine = get_engine(url)
        assert is_current(engine)
        with transaction(engine) as session:
            assert session.execute(text("select 'ä'")).scalar_one() == "ä"
        engine.dispose()
    finally:
        database_server.drop(name)
