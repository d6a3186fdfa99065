"""What the Messages pages post: a reason that messages are held for, and what becomes of those without an answer."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import RadioField, SelectField
from wtforms.fields import SelectChoice

from blueprints.fields import StrippedForm
from models.email_settings import UncertainChoice
from models.outbox import HoldReason


class HeldForm(FlaskForm):
    """The group of held messages that a button is about."""

    reason = SelectField("Reason", choices=[reason.value for reason in HoldReason])

    @property
    def hold_reason(self) -> HoldReason:
        return HoldReason(self.reason.data)


class UncertainForm(StrippedForm):
    """What happens when a connection ends before the server's answer."""

    on_uncertain = RadioField(
        "When a connection ends before the server’s answer",
        choices=[
            SelectChoice(UncertainChoice.RETRY.value, "Send the message again (it may arrive twice; it is marked)"),
            SelectChoice(UncertainChoice.ASK.value, "Hold it and ask me"),
        ],
        invalid_choice_message="Choose one of the two",
    )

    @property
    def choice(self) -> UncertainChoice:
        return UncertainChoice(self.on_uncertain.data)
