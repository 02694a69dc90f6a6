"""Migrations: up and down, also with rows in the tables, and the models say the same as the schema."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from pytest_alembic.config import Config as PytestAlembicConfig
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)
from sqlalchemy import Engine, create_engine, func, inspect, select, text, update
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
    command.downgrade(make_alembic_config(empty_database_url), "-1")
    with alembic_engine.connect() as connection:
        assert connection.execute(text("select count(*) from searches")).scalar_one() == 1
        assert connection.execute(text("select kind from steps")).scalars().all() == ["train_supernet"]
    migrate(empty_database_url)
    with transaction(alembic_engine) as session:
        assert session.scalars(select(SearchRow.kind)).all() == ["search"]


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
