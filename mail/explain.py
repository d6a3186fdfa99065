"""The one voice that speaks to people about errors: headline, meaning, numbered steps, the field to mend.

Known error texts come from the signature catalogue, with headlines and hand-made steps from `headlines.csv` beside
this file; a row without steps there takes them from its remedy. What the catalogue does not know is still placed: the
step, the likely side and what to try. Nothing in here raises, because it runs where something has failed already.

Source: errors.csv, providers.md 13 and 15, ui.md 7 and 8.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mail.doctor.deduction_words import DEDUCED
from mail.errors import Family, Stage
from mail.fault_words import AFTER_REFUSAL, CLEARED, LIKELY_SIDE, OWN_FAULTS, UNKNOWN_FAULTS, OwnFault
from mail.fillings import (
    APP_ONLY,
    capitalised,
    commands_for,
    fill,
    in_one_line,
    speakers_of,
    steps_for,
    uses_password,
    words_of,
)
from mail.password_words import PASSWORD_FAULTS
from mail.signatures import TEXT_LIMIT, Action, Signature, match, signatures

_NO_VALUES: Mapping[str, Any] = MappingProxyType({})
# The row about a port that swallows everything. From the handshake on the server has answered, so it is none of these.
_NO_ANSWER_AT_ALL = 120
_AFTER_AN_ANSWER = frozenset({Stage.TLS, Stage.AUTH, Stage.SENDER, Stage.RECIPIENT, Stage.MESSAGE})
_SHARED_STAGES = frozenset({"dns", "connect", "tls"})
# Rows about host and port speak of the mail server. When a token call failed that way, the row that says the same of
# the token endpoint is the right one.
_ABOUT_TOKEN_ENDPOINT = MappingProxyType(
    {96: 94, 97: 94, 98: 94, 101: 100, 112: 116, 113: 116, 117: 116, 118: 116, 119: 115, 120: 115, 121: 89}
    | {122: 116, 123: 116, 204: 116, 205: 116}
)
_STEP_BREAK = re.compile(r"(?<=\.) (?=[A-Z])|; |, (?=then )")
_HTTP_STATUS = re.compile(r"HTTP ([45]\d\d)(?![\w.])")
_HTTP_LATER = frozenset({"408", "425", "429"})
_REPLY_FIRST = re.compile(r"\W{0,8}([45])\d\d(?![\w.])")
_REPLY = re.compile(r"(?<![\w.])([45])\d\d(?![\w.])")
_TIMEOUT = re.compile(r"(?i)tim(?:ed|e)[ _-]?out|deadline")
_CUT = re.compile(r"(?i)reset|closed|cut|disconnect|broken pipe|aborted")


@dataclass(frozen=True)
class Explanation:
    """What a person is told about one error.

    Attributes:
        steps: what to do, in order; each is one sentence or two.
        action: one of the words of `mail.signatures.Action`.
        signature: number of the catalogue row whose words these are, None when no row fits.
        field: name of the form field to mend, None when it is none.
        side: who has to act or is to be looked at: settings, provider, network or us.
        commands: PowerShell lines ready to copy, the sign-in first; they also stand in the steps.
    """

    headline: str
    meaning: str
    steps: tuple[str, ...]
    action: str
    signature: int | None
    field: str | None
    side: str
    commands: tuple[str, ...] = ()


class _Advice(NamedTuple):
    """One row of headlines.csv; empty texts mean: take it from the signature."""

    headline: str
    field: str
    side: str
    meaning: str
    steps: tuple[str, ...]
    commands: tuple[str, ...]


def explain(
    error_text: str,
    *,
    stage: Stage,
    family: Family,
    provider: str,
    code: str = "",
    values: Mapping[str, Any] = _NO_VALUES,
) -> Explanation:
    """Return what to tell a person about an error; never fails.

    Args:
        error_text: the raw words, already without secrets.
        stage: the step that failed.
        family: token call or SMTP session.
        provider: key of the provider catalogue.
        code: the error's stable word; our own refusals and deductions are told apart by it.
        values: the store's values to fill in, by form name: client_id, tenant_id (or tenant), from_email, login (or
            mailbox), smtp_host (or host), smtp_port (or port), token_url, redirect_uri, grant_type, method; what a
            deduction found, under its own names. Never a secret.
    """
    text = str(error_text or "")[:TEXT_LIMIT]
    words = words_of(values, stage=stage, family=family, provider=provider, detail=text)
    own = None if _is_peers_word(code, text) else OWN_FAULTS.get(code) or DEDUCED.get(code)
    if own is not None:
        return _about_own_fault(own, words, family)
    row = match(text, provider=provider, family=family, hosts=speakers_of(words))
    if row is None or (row.number == _NO_ANSWER_AT_ALL and code == "timed_out" and stage in _AFTER_AN_ANSWER):
        return _about_unknown(_kind_of(text, code), stage, words)
    if family == Family.SMTP and row.number in PASSWORD_FAULTS and uses_password(values):
        return _about_own_fault(PASSWORD_FAULTS[row.number], words, family, signature=row.number)
    return _about_row(row, words, family)


def cleared(stage: Stage) -> str:
    """Return what a failure at this step shows not to be the problem; empty at the first step."""
    return CLEARED.get(stage, "")


def _about_row(row: Signature, words: Mapping[str, str], family: Family) -> Explanation:
    of_token = family == Family.TOKEN
    if of_token and row.number in _ABOUT_TOKEN_ENDPOINT:
        row = signatures()[_ABOUT_TOKEN_ENDPOINT[row.number] - 1]
    advice = _advice()[row.number]
    field = advice.field
    if of_token and row.stage in _SHARED_STAGES and field:
        field = "token_url"
    commands = commands_for(advice.commands, words)
    steps = steps_for(advice.steps or _steps_from(row.remedy), words)
    return Explanation(
        headline=fill(advice.headline, words),
        meaning=fill(advice.meaning or row.cause, words),
        steps=tuple(fill(step, {**words, "command": in_one_line(commands)}) for step in steps),
        action=_action_of(row, words).value,
        signature=row.number,
        field=field or None,
        side=advice.side or _side_of(row),
        commands=commands,
    )


def _about_own_fault(
    own: OwnFault, words: Mapping[str, str], family: Family, *, signature: int | None = None
) -> Explanation:
    field = "token_url" if family == Family.TOKEN and own.field == "smtp_host" else own.field
    commands = commands_for(own.commands, words)
    return Explanation(
        headline=fill(own.headline, words),
        meaning=fill(own.meaning, words),
        steps=tuple(fill(step, {**words, "command": in_one_line(commands)}) for step in steps_for(own.steps, words)),
        action=own.action,
        signature=signature,
        field=field or None,
        side=own.side,
        commands=commands,
    )


def _about_unknown(kind: str, stage: Stage, words: Mapping[str, str]) -> Explanation:
    fault = UNKNOWN_FAULTS[kind]
    side = _likely_side(kind, stage)
    steps = fault.steps
    if kind == "refused" and stage in AFTER_REFUSAL:
        steps = (*steps, AFTER_REFUSAL[stage])
    return Explanation(
        headline=fill(fault.headline, words),
        meaning=fill(f"{fault.meaning} {LIKELY_SIDE[side]}", words),
        steps=tuple(fill(step, words) for step in steps),
        action=_likely_action(kind, stage).value,
        signature=None,
        field=_likely_field(stage) if side in ("settings", "network") else None,
        side=side,
    )


def _is_peers_word(code: str, text: str) -> bool:
    """Tell whether a token endpoint chose this code: its `error` may be any word, one of ours included."""
    return re.match(rf"HTTP \d{{3}} {re.escape(code)}(?:$|[: ])", text) is not None


def _kind_of(text: str, code: str) -> str:
    """Return timeout, cut, later, refused or other. A reply at the start outweighs words further on.

    SMTP's 4xx and HTTP's 5xx are the ones that pass; HTTP's 4xx mostly is a refusal (RFC 5321 4.2.1, RFC 9110 15.5).
    """
    status = _HTTP_STATUS.match(text)
    if status is not None:
        return "later" if status.group(1)[0] == "5" or status.group(1) in _HTTP_LATER else "refused"
    reply = _REPLY_FIRST.match(text)
    if reply is None:
        for kind, pattern in (("timeout", _TIMEOUT), ("cut", _CUT)):
            if pattern.search(code) or pattern.search(text):
                return kind
        reply = _REPLY.search(text)
    if reply is None:
        return "other"
    return "later" if reply.group(1) == "4" else "refused"


def _likely_side(kind: str, stage: Stage) -> str:
    if stage == Stage.SETTINGS:
        return "settings"
    if kind in ("timeout", "cut") or stage in (Stage.RESOLVE, Stage.CONNECT, Stage.TLS):
        return "network"
    if kind == "other":
        return "us" if stage in (Stage.SENDER, Stage.RECIPIENT, Stage.MESSAGE) else "provider"
    if kind == "refused" and stage in (Stage.SENDER, Stage.RECIPIENT, Stage.MESSAGE):
        return "settings"
    return "provider"


def _likely_action(kind: str, stage: Stage) -> Action:
    if stage == Stage.SETTINGS:
        return Action.FIX_SETTINGS
    if kind != "refused":
        return Action.RETRY
    if stage in (Stage.RECIPIENT, Stage.MESSAGE):
        return Action.PERMANENT
    return Action.FIX_PROVIDER if stage == Stage.AUTH else Action.FIX_SETTINGS


def _likely_field(stage: Stage) -> str | None:
    fields = {
        Stage.RESOLVE: "smtp_host",
        Stage.CONNECT: "smtp_port",
        Stage.TLS: "use_ssl",
        Stage.TOKEN: "token_url",
        Stage.SENDER: "from_email",
    }
    return fields.get(stage)


def _action_of(row: Signature, words: Mapping[str, str]) -> Action:
    """Return the row's action. Where nobody signs in there is no consent to renew; rights have to be mended."""
    if row.action is Action.REAUTHORIZE and words.get("grant_type") == APP_ONLY:
        return Action.FIX_PROVIDER
    return row.action


def _side_of(row: Signature) -> str:
    if row.action is Action.FIX_SETTINGS:
        return "settings"
    return "network" if row.stage in _SHARED_STAGES else "provider"


def _steps_from(remedy: str) -> tuple[str, ...]:
    """Return a remedy as steps: its sentences and half-sentences. One that asks for nothing stays whole."""
    if remedy.startswith(("No change", "Nothing")):
        return (remedy,)
    steps = (part.removeprefix("then ").rstrip(".").strip() for part in _STEP_BREAK.split(remedy))
    return tuple(f"{capitalised(step)}." for step in steps if step)


@lru_cache(maxsize=1)
def _advice() -> Mapping[int, _Advice]:
    path = Path(__file__).with_name("headlines.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        return {int(row["number"]): _advice_from(row) for row in csv.DictReader(lines)}


def _advice_from(row: dict[str, str]) -> _Advice:
    steps = tuple(step for step in row["steps"].split(" | ") if step)
    commands = tuple(command for command in row["command"].split("; ") if command)
    return _Advice(row["headline"], row["field"], row["side"], row["meaning"], steps, commands)
