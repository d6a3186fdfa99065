"""The process that `flask worker` becomes: nothing in its memory but what delivery needs.

    python start_worker.py THREADS

The `flask` command brings every page, form and extension along, and those are more than half of what a worker takes.
So it only reads its options, and hands the process over to this file: same process id, environment and output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import config

# By the beginning of the URLs that need it: what the libraries load whenever it is installed.
_DRIVERS = {"redis": "redis", "postgresql": "psycopg"}


def take_over(*, threads: int) -> NoReturn:
    """Put the worker in the place of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, __file__, str(threads)])  # noqa: S606  our own file, and a number


def main(threads: int) -> None:
    """Deliver until told to stop; a wrong setting or key ends the process with its sentence."""
    try:
        settings = config.load()
        _leave_out_unused_drivers(settings)
        # Not before: both load what was just left out.
        import ground
        import worker

        app = ground.create_ground(settings)
    except config.ConfigError as error:
        sys.exit(str(error))
    worker.run(app, threads=threads)


def _leave_out_unused_drivers(settings: Mapping[str, Any]) -> None:
    """Let drivers of databases that this installation has not look as if they were not installed: 15 MB of a worker.

    Huey loads the drivers of all its storages that it finds, and does without the others.
    Source: the import system of Python, https://docs.python.org/3/reference/import.html#the-module-cache
    """
    urls = (settings["SQLALCHEMY_DATABASE_URI"], settings["QUEUE_URL"])
    for scheme, driver in _DRIVERS.items():
        if not any(url.startswith(scheme) for url in urls):
            sys.modules[driver] = None  # type: ignore[assignment]  # Python's own word for "is not there"


if __name__ == "__main__":
    main(int(sys.argv[1]))
