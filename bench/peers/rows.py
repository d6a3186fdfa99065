"""What an application keeps beside its queue, so that somebody can say where a message stands: a row per message.

`add` before the job is queued, `take` before sending, `finish` after it; each is a commit that waits for the disk.
"""

import sqlite3
import threading

import content

TABLE = "CREATE TABLE IF NOT EXISTS mails (id INTEGER PRIMARY KEY, status TEXT NOT NULL, body TEXT NOT NULL)"


class Rows:
    """Safe to use from several threads: each has a connection of its own."""

    def __init__(self, url):
        self._url = url
        self._own = threading.local()
        table = TABLE if url.startswith("sqlite:") else TABLE.replace("INTEGER PRIMARY KEY", "SERIAL PRIMARY KEY")
        self._run(table)

    def add(self):
        return self._run("INSERT INTO mails (status, body) VALUES ('queued', ?) RETURNING id", content.TEXT)

    def take(self, number):
        """Mark the message as being sent and return its text."""
        return self._run(
            "UPDATE mails SET status = 'sending' WHERE id = ? AND status = 'queued' RETURNING body", number
        )

    def finish(self, number):
        self._run("UPDATE mails SET status = 'sent' WHERE id = ?", number)

    def _run(self, statement, *values):
        """Run a statement, which commits by itself; return the first value it returns."""
        connection = self._connection()
        if not self._url.startswith("sqlite:"):
            statement = statement.replace("?", "%s")
        cursor = connection.execute(statement, values)
        row = cursor.fetchone() if cursor.description else None
        cursor.close()
        return row[0] if row else None

    def _connection(self):
        if not hasattr(self._own, "connection"):
            self._own.connection = self._connect()
        return self._own.connection

    def _connect(self):
        if not self._url.startswith("sqlite:"):
            import psycopg

            return psycopg.connect(self._url, autocommit=True)
        connection = sqlite3.connect(self._url.removeprefix("sqlite:"), timeout=20, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection
