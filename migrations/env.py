"""Runs migrations on the database of the given configuration, or of NASATLAS_DATABASE_URL."""

from alembic import context
from sqlalchemy import NullPool, create_engine

from app.db.engine import UTF8_CLIENT
from app.db.models import Base
from app.settings import get_settings

url = context.config.attributes.get("database_url") or get_settings().required_database_url()
connectable = context.config.attributes.get("connection") or create_engine(
    url, connect_args=UTF8_CLIENT, poolclass=NullPool
)

if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with connectable.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            # two processes that start together must not migrate together
            connection.exec_driver_sql("select pg_advisory_xact_lock(7240511)")
            context.run_migrations()
