"""The drivers of databases that this installation does not have are left out of its processes: 15 MB of each.

Huey loads the drivers of all its storages that it finds installed, and does without the others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

# By the beginning of the URLs that need it.
_BY_SCHEME = {"redis": "redis", "postgresql": "psycopg"}


def leave_out_unused(settings: Mapping[str, Any]) -> None:
    """Let those that no setting needs look as if they were not installed; called before anything loads them.

    Source: the import system of Python, https://docs.python.org/3/reference/import.html#the-module-cache
    """
    urls = (settings["SQLALCHEMY_DATABASE_URI"], settings["QUEUE_URL"])
    for scheme, driver in _BY_SCHEME.items():
        if not any(url.startswith(scheme) for url in urls):
            sys.modules[driver] = None  # type: ignore[assignment]  # Python's own word for "is not there"
