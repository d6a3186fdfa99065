"""What somebody mended need not wait for the breaker: the next turn finds out whether it works."""

from __future__ import annotations

from typing import Final

from sqlalchemy import String, bindparam, cast, literal, select, update

from extensions import db
from mail.pace.limits import lanes
from models.email_settings import EmailSettings


def forget_failures(store_id: int) -> None:
    """End the pause of this store's lane that failures made, in the caller's session transaction.

    A pause that the server itself asked for stays. So do the failures: another one makes the next pause longer.
    """
    db.session.execute(_END_PAUSE, {"mended": store_id}, execution_options={"synchronize_session": False})


_GRANT: Final = (
    select(literal("connection:") + cast(EmailSettings.connection_id, String))
    .where(EmailSettings.store_id == bindparam("mended"))
    .scalar_subquery()
)
_END_PAUSE: Final = (
    update(lanes)
    .where(
        lanes.c.key.in_([_GRANT, literal("store:") + cast(bindparam("mended"), String)]),
        lanes.c.failures > 0,
        lanes.c.paused_until.is_not(None),
    )
    .values(paused_until=None, paused_at=None)
)
