"""Runs the schema revisions inside the application, through its own engine."""

from alembic import context
from flask import current_app

import models  # noqa: F401  autogenerate compares with every table, so all of them must be known

database = current_app.extensions["migrate"].db


def run() -> None:
    engine = database.engine
    on_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if on_sqlite:
            # Batch mode copies a table and drops the old one; with foreign keys on, the drop would cascade to its
            # children. The pragma works outside a transaction only, hence before anything else on this connection.
            raw = connection.connection.driver_connection
            raw.rollback()
            raw.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                context.configure(
                    connection=connection,
                    target_metadata=database.metadata,
                    render_as_batch=True,
                    compare_type=True,
                    transaction_per_migration=False,
                )
                context.run_migrations()
                if on_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()):
                    raise RuntimeError(f"the upgrade would break references: {broken[:5]}")
        finally:
            if on_sqlite:
                raw.execute("PRAGMA foreign_keys=ON")


run()
