"""The database that every process binds: made here, so that every room can import it without a cycle.

Imports nothing of ours. What pages alone need is in blueprints/extensions.py: it costs a worker memory.
"""

from typing import TYPE_CHECKING

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    # Every constraint has a name: SQLite's batch migrations can only change what they can name.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base, disable_autonaming=True)
if TYPE_CHECKING:

    class Model(Base):
        __abstract__ = True
else:
    # What rows inherit from; type checkers see the plain declarative base, which says more than the extension does.
    Model = db.Model
