"""Any row in one line."""

from __future__ import annotations

from typing import Any

from flask_security import hash_password

from extensions import db
from mail import settings as email_settings
from models import EmailSettings, Role, Store, User
from models.user import PLATFORM_ADMIN
from tests import thrift


def make_tables() -> None:
    """All tables, with the rows that the first migration brings along; what is there already stays as it is."""
    if thrift.create_tables():
        db.session.add(Role(name=PLATFORM_ADMIN, description="May do everything"))
        db.session.commit()


def make_admin(email: str = "admin@shop.example", *, name: str = "Ada Admin", password: str = "x" * 12) -> User:
    role = db.session.query(Role).filter_by(name=PLATFORM_ADMIN).one()
    user = User(email=email, name=name, password=hash_password(password), roles=[role])
    db.session.add(user)
    db.session.commit()
    return user


def make_user(email: str = "charlie@else.example", *, name: str = "Charlie", password: str = "x" * 12) -> User:
    """Somebody without any role: a stranger to every store."""
    user = User(email=email, name=name, password=hash_password(password))
    db.session.add(user)
    db.session.commit()
    return user


def make_store(name: str = "Acme Store", *, code: str = "", **settings: Any) -> Store:
    """A store as Stores → New makes it, with its email settings; `settings` are columns of EmailSettings."""
    store = Store(name=name, code=code or name.lower().replace(" ", "-"))
    db.session.add(store)
    db.session.flush()  # the settings row needs the store's id
    row: EmailSettings = email_settings.create_for(store)
    for column, value in settings.items():
        setattr(row, column, value)
    db.session.commit()
    return store
