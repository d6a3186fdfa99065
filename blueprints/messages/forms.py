"""What the Messages pages post: a reason that messages are held for."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import SelectField

from models.outbox import HoldReason


class HeldForm(FlaskForm):
    """The group of held messages that a button is about."""

    reason = SelectField("Reason", choices=[reason.value for reason in HoldReason])

    @property
    def hold_reason(self) -> HoldReason:
        return HoldReason(self.reason.data)
