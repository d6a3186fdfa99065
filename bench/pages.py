"""Pages: milliseconds and queries for the settings page and the list of stores, beside a route without database."""

from __future__ import annotations

import gzip
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import event

from app import create_app
from extensions import db
from security.vault import Keyring

PASSWORD = "bench only, quiet harbour lamp"
BASE = "http://localhost:8025"


def run(*, rounds: int, stores: int) -> list[str]:
    """The table as Markdown lines."""
    with tempfile.TemporaryDirectory(prefix="storepost-bench-") as directory:
        app = create_app(_settings(Path(directory)))
        with app.app_context():
            db.create_all()
            store_id = fill(stores)
        try:
            client = app.test_client()
            sign_in(client)
            return _measure(app, client, store_id, rounds, stores)
        finally:
            with app.app_context():
                db.engine.dispose()


def _settings(directory: Path) -> dict[str, Any]:
    return {
        "TESTING": True,
        "PUBLIC_URL": BASE,
        "SECRET_KEY": "bench-only-secret-key-0123456789abcdef",
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{directory / 'bench.sqlite3'}",
        "KEYRING": Keyring.generate("bench"),
        "TRUSTED_HOSTS": ["localhost"],
        "SANDBOX_SMTP_PORT": 8587,
    }


def fill(stores: int) -> int:
    """Make an administrator and so many stores, commit, and return the id of the last store."""
    from flask_security import hash_password

    from mail import settings as email_settings
    from models import Role, Store, User
    from models.user import PLATFORM_ADMIN

    role = Role(name=PLATFORM_ADMIN)
    db.session.add(User(email="bench@shop.example", name="Bench", password=hash_password(PASSWORD), roles=[role]))
    for number in range(stores):
        store = Store(name=f"Store {number:04}", code=f"store-{number:04}", domain=f"store{number}.example")
        db.session.add(store)
        db.session.flush()
        email_settings.create_for(store)
    db.session.commit()
    return int(store.id)


def sign_in(client: FlaskClient, base_url: str = BASE) -> None:
    """Let the client be the administrator that `fill` made."""
    page = client.get("/sign-in", base_url=base_url).text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token
    data = {"csrf_token": token.group(1), "email": "bench@shop.example", "password": PASSWORD}
    assert client.post("/sign-in", base_url=base_url, data=data).status_code == 303


def _measure(app: Any, client: FlaskClient, store_id: int, rounds: int, stores: int) -> list[str]:
    pages = {
        "Route without database (/healthz)": "/healthz",
        f"Manage Stores, {stores:,} stores": "/stores",
        "Manage Stores, last page": "/stores?page=9999",
        "Advanced SMTP page": f"/stores/{store_id}/advanced-smtp",
        "SMTP page": f"/stores/{store_id}/smtp",
    }
    times: dict[str, list[float]] = {name: [] for name in pages}
    queries: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for url in pages.values():
        assert client.get(url, base_url=BASE).status_code == 200, url
    for _ in range(rounds):
        for name, url in pages.items():
            repeat = 20
            started = time.perf_counter()
            for _ in range(repeat):
                answer = client.get(url, base_url=BASE)
            times[name].append((time.perf_counter() - started) / repeat * 1000)
            sizes[name] = len(gzip.compress(answer.data))
    for name, url in pages.items():
        queries[name] = _count_queries(app, client, url)
    base = statistics.median(times["Route without database (/healthz)"])
    lines = [
        f"## Pages ({rounds} rounds of 20 requests in turn, in process, SQLite)",
        "",
        "| page | ms, median | × the route without database | queries | KB compressed |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in pages:
        median = statistics.median(times[name])
        lines.append(f"| {name} | {median:.2f} | {median / base:.1f} | {queries[name]} | {sizes[name] / 1024:.1f} |")
    return lines


def _count_queries(app: Any, client: FlaskClient, url: str) -> int:
    seen: list[str] = []

    def watch(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        seen.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", watch)
    try:
        client.get(url, base_url=BASE)
    finally:
        event.remove(engine, "before_cursor_execute", watch)
    return len([statement for statement in seen if not statement.startswith(("BEGIN", "PRAGMA"))])
