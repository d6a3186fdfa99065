"""What PostgreSQL does differently: it goes away while we run, and many write at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from relay import Relay
from tests.relay.peer import Peer, stored, uid_of


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


@contextmanager
def away(database_url: str) -> Iterator[None]:
    """The database ends all connections and takes no new ones, as while it restarts."""
    url = make_url(database_url)
    where = {"host": url.host, "port": url.port, "user": url.username, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [url.database])
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')


def test_while_the_database_is_away_mail_is_put_off_and_taken_afterwards(
    relay: Relay, key: str, database_url: str
) -> None:
    stored()  # ends the test's own transaction
    with Peer(relay.port) as peer, Peer(relay.port) as fresh:
        uids = [uid_of(peer.sign_in(key).envelope().data())]
        with away(database_url):
            for _ in range(3):
                assert peer.envelope().data().text.startswith("451 4.3.0 ")
            assert fresh.greet().auth(key).text.startswith("454 4.7.0 ")
        uids.append(uid_of(peer.envelope().data()))
        assert fresh.auth(key).code == 235
        uids.append(uid_of(fresh.envelope().data()))
    assert [message.uid for message in stored()] == uids


def test_many_connections_are_written_by_several_writers(start: Callable[..., Relay], key: str) -> None:
    relay = start(writers=4, group=5)
    accepted: list[str] = []

    def talk() -> None:
        with Peer(relay.port, timeout_s=30) as peer:
            peer.sign_in(key)
            accepted.extend(uid_of(peer.envelope().data()) for _ in range(10))

    threads = [threading.Thread(target=talk) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 120
    assert sorted(message.uid for message in stored()) == sorted(accepted)
