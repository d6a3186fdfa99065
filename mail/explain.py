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
from urllib.parse import urlsplit

from mail.errors import Family, Stage
from mail.fault_words import AFTER_REFUSAL, CLEARED, DOING, LIKELY_SIDE, OWN_FAULTS, UNKNOWN_FAULTS, OwnFault
from mail.providers import catalogue
from mail.signatures import TEXT_LIMIT, Action, Signature, match, signatures

_NO_VALUES: Mapping[str, Any] = MappingProxyType({})
_VALUE_LIMIT = 300
_SHARED_STAGES = frozenset({"dns", "connect", "tls"})
# Rows about host and port speak of the mail server. When a token call failed that way, the row that says the same of
# the token endpoint is the right one.
_ABOUT_TOKEN_ENDPOINT = MappingProxyType(
    {96: 94, 97: 94, 98: 94, 101: 100, 112: 116, 113: 116, 117: 116, 118: 116, 119: 115, 120: 115, 121: 89}
    | {122: 116, 123: 116, 204: 116, 205: 116}
)
_STAND_INS = MappingProxyType(
    {
        "app": "your app",
        "client_id": "your client ID",
        "detail": "see the technical details.",
        "doing": "sending",
        "from_email": "the From address",
        "host": "the mail server",
        "mailbox": "the sending mailbox",
        "peer": "the server",
        "port": "this port",
        "provider": "the provider",
        "redirect_uri": "the callback URL shown on the Advanced SMTP page",
        "tenant": "your-tenant-id",
        "token_host": "the token endpoint",
    }
)
# In a command a missing value must be seen to be missing.
_ARGUMENT_STAND_INS = MappingProxyType(
    {"client_id": "<client ID>", "from_email": "<From Email Address>", "mailbox": "<mailbox>"}
)
# A mail server called "localhost" stays as it is at the start of a sentence; these are words.
_WORDS_NOT_NAMES = frozenset({"app", "doing", "provider"})
_OPTIONAL = re.compile(r"\[([^\[\]{}]*)\{(\w+)\}([^\[\]{}]*)\]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_STEP_BREAK = re.compile(r"(?<=\.) (?=[A-Z])|; |, (?=then )")
_STARTS_WITH_WORD = re.compile(r"[a-z]+(?![\w.])")
_SAFE_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]*")
_SHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_REPLY_FIRST = re.compile(r"\W{0,8}(?:HTTP\W{1,3})?([45])\d\d(?![\w.])")
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
        commands: PowerShell lines ready to copy; they also stand in the steps.
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
        code: the error's stable word; our own refusals are told apart by it.
        values: the store's values to fill in, by form name: client_id, tenant_id (or tenant), from_email, login (or
            mailbox), smtp_host (or host), smtp_port (or port), token_url, redirect_uri. Never a secret.
    """
    text = str(error_text or "")[:TEXT_LIMIT]
    words = _words(values, stage=stage, family=family, provider=provider, detail=text)
    own = OWN_FAULTS.get(code)
    if own is not None:
        return _about_own_fault(own, words, family)
    row = match(text, provider=provider, family=family)
    if row is not None:
        return _about_row(row, words, family)
    return _about_unknown(_kind_of(text, code), stage, words)


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
    arguments = {**_ARGUMENT_STAND_INS, **{name: _quoted(value) for name, value in words.items()}}
    commands = tuple(_fill(command, arguments) for command in advice.commands)
    steps = advice.steps or _steps_from(row.remedy)
    return Explanation(
        headline=_fill(advice.headline, words),
        meaning=_fill(advice.meaning or row.cause, words),
        steps=tuple(_fill(step, {**words, "command": "; ".join(commands)}) for step in steps),
        action=row.action.value,
        signature=row.number,
        field=field or None,
        side=advice.side or _side_of(row),
        commands=commands,
    )


def _about_own_fault(own: OwnFault, words: Mapping[str, str], family: Family) -> Explanation:
    field = "token_url" if family == Family.TOKEN and own.field == "smtp_host" else own.field
    return Explanation(
        headline=_fill(own.headline, words),
        meaning=_fill(own.meaning, words),
        steps=tuple(_fill(step, words) for step in own.steps),
        action=own.action,
        signature=None,
        field=field or None,
        side=own.side,
    )


def _about_unknown(kind: str, stage: Stage, words: Mapping[str, str]) -> Explanation:
    fault = UNKNOWN_FAULTS[kind]
    side = _likely_side(kind, stage)
    steps = fault.steps
    if kind == "refused" and stage in AFTER_REFUSAL:
        steps = (*steps, AFTER_REFUSAL[stage])
    return Explanation(
        headline=_fill(fault.headline, words),
        meaning=_fill(f"{fault.meaning} {LIKELY_SIDE[side]}", words),
        steps=tuple(_fill(step, words) for step in steps),
        action=_likely_action(kind, stage).value,
        signature=None,
        field=_likely_field(stage) if side in ("settings", "network") else None,
        side=side,
    )


def _kind_of(text: str, code: str) -> str:
    """Return timeout, cut, later, refused or other. A reply at the start outweighs words further on."""
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


def _side_of(row: Signature) -> str:
    if row.action is Action.FIX_SETTINGS:
        return "settings"
    return "network" if row.stage in _SHARED_STAGES else "provider"


def _words(values: Mapping[str, Any], *, stage: Stage, family: Family, provider: str, detail: str) -> Mapping[str, str]:
    """Return the fillings that are known, by placeholder name."""
    given = {name: _one_line(value) for name, value in values.items() if value not in (None, "")}
    of_token = family == Family.TOKEN
    token_host = _host_of(given.get("token_url", ""))
    host = given.get("host") or given.get("smtp_host", "")
    client_id = given.get("client_id", "")
    words = {
        "app": f"your app (client ID {client_id})" if client_id else "",
        "client_id": client_id,
        "detail": _one_line(detail),
        "doing": DOING.get(stage, ""),
        "from_email": given.get("from_email", ""),
        "host": token_host if of_token else host,
        "mailbox": given.get("mailbox") or given.get("login") or given.get("from_email", ""),
        "peer": token_host if of_token else host,
        "port": "" if of_token else given.get("port") or given.get("smtp_port", ""),
        "provider": _name_in_sentence(provider),
        "redirect_uri": given.get("redirect_uri", ""),
        "tenant": given.get("tenant") or given.get("tenant_id", ""),
        "token_host": token_host,
    }
    return {name: word for name, word in words.items() if word}


def _fill(template: str, words: Mapping[str, str]) -> str:
    """Return the template with its placeholders filled; values are never read as templates themselves."""

    def optional(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        return f"{before}{{{name}}}{after}" if name in words else ""

    def filling(found: re.Match[str]) -> str:
        name = found.group(1).lower()
        word = words.get(name) or _STAND_INS.get(name)
        if word is None:
            return found.group(0)
        # {Host} opens a sentence: "The mail server" takes a capital there.
        opens = found.group(1)[0].isupper() and (name not in words or name in _WORDS_NOT_NAMES)
        return _capitalised(word) if opens else word

    return _PLACEHOLDER.sub(filling, _OPTIONAL.sub(optional, template))


def _steps_from(remedy: str) -> tuple[str, ...]:
    """Return a remedy as steps: its sentences and half-sentences. One that asks for nothing stays whole."""
    if remedy.startswith(("No change", "Nothing")):
        return (remedy,)
    steps = (part.removeprefix("then ").rstrip(".").strip() for part in _STEP_BREAK.split(remedy))
    return tuple(f"{_capitalised(step)}." for step in steps if step)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:] if _STARTS_WITH_WORD.match(text) else text


def _quoted(value: str) -> str:
    """Return a value as one PowerShell argument. Its single quotes include the typographic ones."""
    if _SAFE_ARGUMENT.fullmatch(value):
        return value
    return "'" + _SHELL_QUOTES.sub(r"\g<0>\g<0>", value) + "'"


def _one_line(value: object) -> str:
    return " ".join(str(value)[:_VALUE_LIMIT].split())


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


@lru_cache(maxsize=1)
def _provider_names() -> Mapping[str, str]:
    return {provider.key: provider.short_name for provider in catalogue().choices()} | {"sandbox": "The sandbox"}


def _name_in_sentence(key: str) -> str:
    name = _provider_names().get(key, "")
    return "the " + name.removeprefix("The ") if name.startswith("The ") else name


@lru_cache(maxsize=1)
def _advice() -> Mapping[int, _Advice]:
    path = Path(__file__).with_name("headlines.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        return {int(row["number"]): _advice_from(row) for row in csv.DictReader(lines)}


def _advice_from(row: dict[str, str]) -> _Advice:
    steps = tuple(step for step in row["steps"].split(" | ") if step)
    commands = tuple(command for command in row["command"].split("; ") if command)
    return _Advice(row["headline"], row["field"], row["side"], row["meaning"], steps, commands)
