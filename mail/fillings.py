"""What goes into the sentences of `mail/explain.py`: the store's own values by name, and the filling of templates.

A template is a sentence with `{name}` in it; `[... {name} ...]` is left out when that value is not known, and `{Name}`
opens a sentence. Values are never read as templates themselves. Source: ui.md 7 and 8, providers.md 3.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mail.errors import Family, Stage
from mail.fault_words import DOING
from mail.providers import catalogue
from mail.signatures import vendor_of

APP_ONLY = "client_credentials"

_VALUE_LIMIT = 300
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
_VENDOR_NAMES = MappingProxyType(
    {"microsoft": "Microsoft", "google": "Google", "yahoo": "Yahoo", "zoho": "Zoho", "ses": "Amazon SES"}
)
_OPTIONAL = re.compile(r"\[([^\[\]{}]*)\{(\w+)\}([^\[\]{}]*)\]")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_STARTS_WITH_WORD = re.compile(r"[a-z]+(?![\w.])")
_SAFE_ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]*")
_SHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_CONNECT = "Connect-ExchangeOnline"


class _Cloud(NamedTuple):
    """What differs between Microsoft's clouds (providers.md 3)."""

    resource: str
    app_resource: str
    server: str
    login_host: str
    environment: str


_GLOBAL = _Cloud("outlook.office.com", "outlook.office365.com", "smtp.office365.com", "login.microsoftonline.com", "")
_GCC_HIGH = _Cloud(
    *("outlook.office365.us", "outlook.office365.us", "smtp.office365.us"),
    *("login.microsoftonline.us", " -ExchangeEnvironmentName O365USGovGCCHigh"),
)
_DOD = _Cloud(
    *("outlook-dod.office365.us", "outlook-dod.office365.us", "outlook-dod.office365.us"),
    *("login.microsoftonline.us", " -ExchangeEnvironmentName O365USGovDoD"),
)
_CHINA = _Cloud(
    *("partner.outlook.cn", "partner.outlook.cn", "smtp.partner.outlook.cn"),
    *("login.partner.microsoftonline.cn", " -ExchangeEnvironmentName O365China"),
)


def words_of(values: Mapping[str, Any], *, stage: Stage, family: Family, provider: str, detail: str) -> dict[str, str]:
    """Return the fillings that are known, by placeholder name. Values under other names are passed on as they are."""
    given = {name: _on_one_line(value) for name, value in values.items() if value not in (None, "")}
    of_token = family == Family.TOKEN
    token_host = _host_of(given.get("token_url", ""))
    host = given.get("host") or given.get("smtp_host", "")
    client_id = given.get("client_id", "")
    cloud = _cloud_of(token_host, host)
    words = {
        "app": f"your app (client ID {client_id})" if client_id else "",
        "client_id": client_id,
        "detail": _on_one_line(detail),
        "doing": DOING.get(stage, ""),
        "from_email": given.get("from_email", ""),
        "host": token_host if of_token else host,
        "mailbox": given.get("mailbox") or given.get("login") or given.get("from_email", ""),
        "ms_app_scope": f"https://{cloud.app_resource}/.default",
        "ms_login": cloud.login_host,
        "ms_scope": f"https://{cloud.resource}/SMTP.Send",
        "ms_server": cloud.server,
        "peer": token_host if of_token else host,
        "port": "" if of_token else given.get("port") or given.get("smtp_port", ""),
        "provider": _provider_in_sentence(provider, token_host if of_token else host, is_named_by_host=of_token),
        "redirect_uri": given.get("redirect_uri", ""),
        "tenant": given.get("tenant") or given.get("tenant_id", ""),
        "token_host": token_host,
    }
    return {name: word for name, word in (given | words).items() if word}


def speakers_of(words: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hosts whose words an error text may be."""
    return (words["peer"],) if "peer" in words else ()


def uses_password(values: Mapping[str, Any]) -> bool:
    """Tell whether the store signs in with user name and password: said so, or it has a server and no token URL."""
    if "method" in values:
        return str(values["method"]) == "smtp"
    return "smtp_host" in values and "token_url" not in values


def fill(template: str, words: Mapping[str, str]) -> str:
    """Return the template with its placeholders filled."""

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
        return capitalised(word) if opens else word

    return _PLACEHOLDER.sub(filling, _OPTIONAL.sub(optional, template))


def steps_for(steps: Iterable[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """Return the steps that concern the store: "user:" ones are for a signed-in mailbox, "app:" ones for app-only.

    While the grant type is not known, both stay and say whom they are for.
    """
    grant = words.get("grant_type", "")
    kept = []
    for mark, step in map(_split_mark, steps):
        if mark and not grant:
            lead = "With a signed-in mailbox: " if mark == "user" else "With client_credentials (app-only): "
            kept.append(lead + step)
        elif not mark or (mark == "app") == (grant == APP_ONLY):
            kept.append(step)
    return tuple(kept)


def commands_for(commands: Iterable[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """Return PowerShell lines with the store's values as arguments, the connection to Exchange Online first.

    Lines are marked as steps are. While the grant type is not known, those of a signed-in mailbox are taken; a line
    that gives an app a right nobody asked for must not be copied along.
    """
    arguments = {**_ARGUMENT_STAND_INS, **{name: _quoted(value) for name, value in words.items()}}
    marked = [_split_mark(command) for command in commands]
    grant = words.get("grant_type", "")
    has_user_lines = any(mark == "user" for mark, _ in marked)
    of_app = grant == APP_ONLY if grant else not has_user_lines
    lines = [fill(line, arguments) for mark, line in marked if not mark or (mark == "app") == of_app]
    if lines and not lines[0].startswith(_CONNECT):
        lines.insert(0, _CONNECT + _cloud_of(words.get("token_host", ""), words.get("host", "")).environment)
    return tuple(lines)


def in_one_line(commands: Iterable[str]) -> str:
    """Return commands as a sentence can carry them; remarks among them are for the list only."""
    return "; ".join(command for command in commands if not command.startswith("#"))


def capitalised(text: str) -> str:
    """Return the text with a capital, unless it starts with a name such as smtp.example."""
    return text[:1].upper() + text[1:] if _STARTS_WITH_WORD.match(text) else text


def _split_mark(text: str) -> tuple[str, str]:
    mark, _, rest = text.partition(": ")
    return (mark, rest) if mark in ("user", "app") else ("", text)


def _quoted(value: str) -> str:
    """Return a value as one PowerShell argument. Its single quotes include the typographic ones."""
    if _SAFE_ARGUMENT.fullmatch(value):
        return value
    return "'" + _SHELL_QUOTES.sub(r"\g<0>\g<0>", value) + "'"


def _on_one_line(value: object) -> str:
    return " ".join(str(value)[:_VALUE_LIMIT].split())


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _cloud_of(*hosts: str) -> _Cloud:
    if any(host.endswith((".microsoftonline.cn", ".outlook.cn", ".chinacloudapi.cn")) for host in hosts):
        return _CHINA
    if "outlook-dod.office365.us" in hosts:
        return _DOD
    if any(host.endswith((".microsoftonline.us", ".office365.us")) for host in hosts):
        return _GCC_HIGH
    return _GLOBAL


@lru_cache(maxsize=1)
def _provider_names() -> Mapping[str, str]:
    # "The provider" is no name: who a custom one is, its host may tell.
    named = {one.key: one.short_name for one in catalogue().choices() if not one.short_name.startswith("The ")}
    return named | {"sandbox": "the sandbox"}


def _provider_in_sentence(key: str, host: str, *, is_named_by_host: bool) -> str:
    known = _provider_names().get(key) or _VENDOR_NAMES.get(vendor_of(host), "")
    return known or (host if is_named_by_host else "")
