"""A sender of its own process: takes permits as fast as a lane gives them and prints when it got each.

python -m tests.mail.pace.sender DATABASE_URL LANE PER_MINUTE WINDOW_S MARGIN_S
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy import text

from extensions import db
from mail import pace
from mail.pace import Limits
from models.database import prepare_engine, writing

# The row that this very transaction stamped; on SQLite nobody else writes meanwhile.
OWN_STAMP = {
    "sqlite": text("SELECT MAX(stamped_at) FROM lane_permits WHERE lane_key = :lane"),
    "postgresql": text(
        "SELECT stamped_at FROM lane_permits WHERE lane_key = :lane AND xmin = pg_current_xact_id()::xid"
    ),
}


def main(url: str, lane: str, per_minute: str, window_s: str, margin_s: str) -> None:
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI=url)
    db.init_app(app)
    window, margin = timedelta(seconds=float(window_s)), timedelta(seconds=float(margin_s))
    limits = Limits(lane, 3, int(per_minute), None, window, margin)
    with app.app_context():
        prepare_engine(db.engine)
        while True:
            if (stamp := _send(limits)) is not None:
                print(stamp, flush=True)
            else:
                time.sleep(max(pace.look(limits).next_permit_in.total_seconds(), 0.002))


def _send(limits: Limits) -> int | None:
    with writing(), db.engine.begin() as connection:
        if not pace.take_permit(limits, limits.per_minute or 0, connection):
            return None
        stamp: Any = connection.scalar(OWN_STAMP[connection.dialect.name], {"lane": limits.lane})
        return int(stamp)


if __name__ == "__main__":
    main(*sys.argv[1:])
