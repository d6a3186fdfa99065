"""The process that `flask worker` becomes: nothing in its memory but what delivery needs.

    python start_worker.py THREADS

The `flask` command brings every page, form and extension along, and those are more than half of what a worker takes.
So it only reads its options, and hands the process over to this file: same process id, environment and output.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import config
import drivers


def take_over(*, threads: int) -> NoReturn:
    """Put the worker in the place of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, __file__, str(threads)])  # noqa: S606  our own file, and a number


def main(threads: int) -> None:
    """Deliver until told to stop; a wrong setting or key ends the process with its sentence."""
    try:
        settings = config.load()
        drivers.leave_out_unused(settings)
        # Not before: both load what was just left out.
        import ground
        import worker

        app = ground.create_ground(settings)
    except config.ConfigError as error:
        sys.exit(str(error))
    worker.run(app, threads=threads)


if __name__ == "__main__":
    main(int(sys.argv[1]))
