"""What to say when a Connect does not come to a good end: each way with its own sentence and its own way out.

Errors in the provider's own words are explained by `mail/explain.py`; the table here holds the refusals of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from security.redact import one_line, redact


class Fault(NamedTuple):
    """`{provider}`, `{account}`, `{login}` and `{scopes}` are filled in where they are known."""

    sentence: str
    way_out: str


AGAIN = "Open the store’s Advanced SMTP page and press Connect again."

FAULTS: dict[str, Fault] = {
    "parameter_repeated": Fault(
        "The answer from the sign-in page says the same thing twice, so it was not used.",
        f"{AGAIN} If it repeats, something between your browser and Storepost changes addresses.",
    ),
    "parameter_unusable": Fault(
        "The answer from the sign-in page cannot be read, so it was not used.",
        f"{AGAIN} If it repeats, check the Authorization URL.",
    ),
    "state_missing": Fault(
        "This is where sign-in pages send people back to, and this visit did not come from one.",
        "Open the store’s Advanced SMTP page and press Connect.",
    ),
    "state_unknown": Fault(
        "Storepost did not ask for this answer, or asked for it too long ago to remember.",
        AGAIN,
    ),
    "state_foreign": Fault(
        "This sign-in was started by another person or in another browser session.",
        f"{AGAIN} Finish it in the same browser, without signing out in between.",
    ),
    "state_used": Fault(
        "This answer was used already; the page was probably loaded a second time.",
        "Look at the store’s connection card. If it does not say Connected, press Connect again.",
    ),
    "state_expired": Fault(
        "The sign-in took longer than ten minutes, so its answer is not accepted any more.",
        AGAIN,
    ),
    "forbidden": Fault(
        "You may not connect this store any more, so the answer was not used.",
        "Ask a platform administrator to connect it or to give you the right.",
    ),
    "store_gone": Fault(
        "The store was deleted while you were at the sign-in page.",
        "Choose another store.",
    ),
    "settings_changed": Fault(
        "The settings of this store changed while you were at the sign-in page; the answer belongs to the old ones.",
        "Look at the settings, then press Connect again.",
    ),
    "redirect_changed": Fault(
        "The address of Storepost changed while you were at the sign-in page.",
        "Register the callback URL shown on the Advanced SMTP page at the provider, then press Connect again.",
    ),
    "issuer_missing": Fault(
        "The answer does not say which sign-in server it comes from, although {provider} always does.",
        f"{AGAIN} If it repeats, treat it as an attack and tell your security contact.",
    ),
    "issuer_mismatch": Fault(
        "The answer came from another sign-in server than the one that was asked.",
        "Check Authorization URL and press Connect again. If it repeats, treat it as an attack and tell your security "
        "contact.",
    ),
    "code_missing": Fault(
        "{provider} sent you back without saying yes or no.",
        f"{AGAIN} If it repeats, check that no proxy changes the callback address.",
    ),
    "id_token_wrong": Fault(
        "{provider} sent proof of a sign-in that does not belong to this one: {reason}.",
        f"{AGAIN} If it repeats, check Client Id and the time on this server.",
    ),
    "refresh_token_missing": Fault(
        "{provider} gave no refresh token, so mail would stop within an hour. The connection was not changed.",
        "Microsoft and many others: add offline_access to Scope. Google: remove the app from the account’s third-party "
        "access. Then press Connect again.",
    ),
    "scope_missing": Fault(
        "{provider} did not grant what sending mail needs: {scopes}. The connection was not changed.",
        "Press Connect again and leave every permission ticked. If no choice is shown, check Scope and the permissions "
        "of the app at the provider.",
    ),
    "other_mailbox": Fault(
        "You signed in as {account}, but this store signs in as {login}. The connection was not changed.",
        "Press Connect again and sign in as {login}. If {account} is the right mailbox, enter it as Sign-in address "
        "first; if it may use the mailbox {login}, press Disconnect first.",
    ),
}


# The person, or whoever decides for the person, said no: nothing is broken.
_SAID_NO = frozenset({"access_denied", "consent_required", "login_required", "interaction_required"})
_DETAIL_CHARS = 1_000


class ConsentFailed(Exception):
    """The answer was not used, and nothing was changed.

    Attributes:
        code: stable word.
        sentence, way_out: what happened and what to do.
        store_id: of the store this was about; None when that is unknown or none of this person's business.
        explanation: more words, when the provider named an error.
        detail: the provider's own words, escaped and cut, without secrets; or empty.
        is_calm: somebody said no, and nothing is broken.
    """

    def __init__(
        self,
        code: str,
        sentence: str,
        way_out: str = "",
        *,
        store_id: int | None = None,
        explanation: Explanation | None = None,
        detail: str = "",
        is_calm: bool = False,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence
        self.way_out = way_out
        self.store_id = store_id
        self.explanation = explanation
        self.detail = detail
        self.is_calm = is_calm


def refusal(code: str, *, store_id: int | None = None, **words: str) -> ConsentFailed:
    """Return the failure for one of our own refusals, with its blanks filled in."""
    fault = FAULTS[code]
    return ConsentFailed(code, fault.sentence.format_map(words), fault.way_out.format_map(words), store_id=store_id)


def in_providers_words(
    code: str, text: str, *, provider: str, values: Mapping[str, str], store_id: int
) -> ConsentFailed:
    """Return the failure for an error that the provider named: explained, its own words masked, escaped and cut."""
    detail = one_line(redact(text), limit=_DETAIL_CHARS)
    found = explain(detail, stage=Stage.TOKEN, family=Family.TOKEN, provider=provider, code=code, values=values)
    return ConsentFailed(
        code,
        f"{found.headline}. Nothing was changed.",
        " ".join(found.steps),
        store_id=store_id,
        explanation=found,
        detail=detail,
        is_calm=code in _SAID_NO,
    )
