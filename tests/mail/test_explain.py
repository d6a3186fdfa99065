import csv
import re
import time
from pathlib import Path
from typing import Any

import pytest

from mail.errors import Family, Stage
from mail.explain import Explanation, cleared, explain
from mail.fault_words import OWN_FAULTS
from mail.signatures import Action

VALUES: dict[str, Any] = {
    "client_id": "1b2c3d4e-0000-4000-8000-000000000000",
    "tenant_id": "common",
    "from_email": "sales@acme.example",
    "login": "orders@acme.example",
    "smtp_host": "smtp.acme.example",
    "smtp_port": 2587,
    "token_url": "https://login.acme.example/common/token",
    "redirect_uri": "http://localhost:8025/oauth/callback",
}
# The names of the form (product.md 3): a field to mend must be one of them.
FORM_FIELDS = {
    *("from_name", "from_email", "bcc", "use_ssl", "emails_off", "smtp_host", "smtp_port", "client_id", "tenant_id"),
    *("client_secret", "refresh_token", "grant_type", "token_url", "scope", "custom_fields", "provider"),
    *("authorization_url", "login", "username", "password"),
}
SIDES = {"settings", "provider", "network", "us"}
BANNED = re.compile(r"(?i)\b(?:please|oops|invalid|successfully)\b|!")
LEFTOVER = re.compile(r"[{}\[\]]|\(\?|\\[bdDsSwW.]|\.\*|\|\|")


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


SAMPLES = _table(Path(__file__).with_name("signature_samples.csv"))
# What each row says for the store above; `filled_in` names the values that must stand in the text.
EXPLAINED = {row["number"]: row for row in _table(Path(__file__).with_name("explained_rows.csv"))}
CATALOGUE = _table(Path(__file__).parents[2] / "mail" / "errors.csv")


def _explain(
    text: str, *, stage: Stage = Stage.AUTH, provider: str = "microsoft365", code: str = "", **values: Any
) -> Explanation:
    family = Family.TOKEN if stage is Stage.TOKEN else Family.SMTP
    return explain(text, stage=stage, family=family, provider=provider, code=code, values=values)


def _explained_sample(sample: dict[str, str], **values: Any) -> Explanation:
    family = Family(sample["family"])
    stage = Stage.TOKEN if family is Family.TOKEN else Stage.MESSAGE
    return explain(sample["text"], stage=stage, family=family, provider=sample["provider"], values=values)


def _said(explanation: Explanation) -> list[str]:
    return [explanation.headline, explanation.meaning, *explanation.steps]


def _check_fit_for_people(explanation: Explanation) -> None:
    for sentence in _said(explanation):
        assert sentence.strip() == sentence != ""
        assert not LEFTOVER.search(sentence), sentence
        assert not BANNED.search(sentence), sentence
    assert not explanation.headline.endswith(".")
    assert explanation.headline[0].isupper() or explanation.headline.startswith(("smtp.", "login."))
    assert explanation.steps
    assert explanation.action in {action.value for action in Action}
    assert explanation.side in SIDES
    assert explanation.field is None or explanation.field in FORM_FIELDS


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"row-{sample['number']}")
def test_it_explains_every_row_in_words_for_people(sample: dict[str, str]) -> None:
    explanation = _explained_sample(sample)

    assert explanation.signature == int(sample["number"])
    _check_fit_for_people(explanation)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"row-{sample['number']}")
def test_every_row_gives_the_explanation_it_was_given(sample: dict[str, str]) -> None:
    """The table of all rows: the sample reply on the left, what `explained_rows.csv` says of it on the right."""
    expected = EXPLAINED[sample["number"]]
    explanation = _explained_sample(sample, **VALUES)

    assert explanation.signature == int(sample["number"])
    assert explanation.headline == expected["headline"]
    assert explanation.action == CATALOGUE[int(sample["number"]) - 1]["action"] == expected["action"]
    assert (explanation.field or "", explanation.side) == (expected["field"], expected["side"])
    text = " ".join(_said(explanation))
    for name in filter(None, expected["filled_in"].split(" ")):
        assert str(VALUES[name]) in text, name
    _check_fit_for_people(explanation)


@pytest.mark.parametrize("number", [1, 12, 18, 26, 31, 32, 35, 63, 124, 125, 132, 144, 156, 158, 159, 160, 189])
def test_a_row_about_the_stores_own_values_names_them(number: int) -> None:
    assert EXPLAINED[str(number)]["filled_in"]


def test_every_row_has_a_headline_of_its_own() -> None:
    headlines = {
        explain(row["text"], stage=Stage.AUTH, family=Family(row["family"]), provider=row["provider"]).headline
        for row in SAMPLES
    }

    assert len(headlines) == len(SAMPLES)


def test_it_fills_in_the_stores_own_values() -> None:
    explanation = _explain("AADSTS50011: no match", stage=Stage.TOKEN, **VALUES)

    assert any(VALUES["client_id"] in step for step in explanation.steps)
    assert any(f"add exactly {VALUES['redirect_uri']}." in step for step in explanation.steps)


def test_without_values_it_names_where_to_find_them() -> None:
    explanation = _explain("AADSTS50011: no match", stage=Stage.TOKEN)

    assert any("the callback URL shown on the Advanced SMTP page" in step for step in explanation.steps)


def test_the_switched_off_mailbox_and_the_wrong_identity_are_different_faults() -> None:
    off = _explain("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", **VALUES)
    wrong = _explain("535 5.7.3 Authentication unsuccessful", **VALUES)

    assert off.action == "fix_provider"
    assert off.commands == (
        "Connect-ExchangeOnline",
        "Set-CASMailbox -Identity orders@acme.example -SmtpClientAuthenticationDisabled $false",
    )
    assert any("; ".join(off.commands) in step for step in off.steps)
    assert wrong.action == "reauthorize"
    assert wrong.commands[0] == "Connect-ExchangeOnline"
    assert f"New-ServicePrincipal -AppId {VALUES['client_id']}" in wrong.commands[1]
    assert off.headline != wrong.headline
    assert not set(off.steps) & set(wrong.steps)


def test_a_common_tenant_is_told_to_use_its_own() -> None:
    explanation = _explain("AADSTS50194: not multi-tenant", stage=Stage.TOKEN, **VALUES)

    assert explanation.field == "tenant_id"
    assert any("in place of common" in step for step in explanation.steps)


def test_a_secret_id_pasted_as_secret_points_at_the_secret_field() -> None:
    assert _explain("AADSTS7000215: Invalid client secret", stage=Stage.TOKEN).field == "client_secret"


@pytest.mark.parametrize(
    ("mailbox", "argument"),
    [
        ("orders@acme.example", "orders@acme.example"),
        ("o'neil@acme.example", "'o''neil@acme.example'"),
        ("a’; Remove-Mailbox x@acme.example", "'a’’; Remove-Mailbox x@acme.example'"),
        ("-Force", "'-Force'"),
        ("$(whoami)@acme.example", "'$(whoami)@acme.example'"),
    ],
)
def test_a_value_stays_one_argument_of_a_command(mailbox: str, argument: str) -> None:
    explanation = _explain("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", mailbox=mailbox)

    assert explanation.commands[1:] == (
        f"Set-CASMailbox -Identity {argument} -SmtpClientAuthenticationDisabled $false",
    )


def test_a_missing_value_is_seen_to_be_missing_in_a_command() -> None:
    explanation = _explain("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox")

    assert explanation.commands[1].startswith("Set-CASMailbox -Identity <mailbox> ")


def test_values_are_not_read_as_templates() -> None:
    explanation = _explain("AADSTS50011: no", stage=Stage.TOKEN, redirect_uri="{client_id}[{host}]", client_id="x")

    assert any("{client_id}[{host}]" in step for step in explanation.steps)


@pytest.mark.parametrize(
    "text",
    [
        "gaierror: [Errno -2] Name or service not known",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "TimeoutError: timed out",
        "SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number",
        "SSLCertVerificationError: certificate verify failed: self-signed certificate",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
    ],
)
def test_a_network_fault_of_a_token_call_is_not_blamed_on_the_mail_server(text: str) -> None:
    of_token, of_smtp = _explain(text, stage=Stage.TOKEN, **VALUES), _explain(text, stage=Stage.CONNECT, **VALUES)

    assert of_token.field in ("token_url", None)
    assert not any("SMTP" in sentence or "smtp.acme.example" in sentence for sentence in _said(of_token))
    assert "smtp.acme.example" in of_smtp.headline


@pytest.mark.parametrize("code", sorted(OWN_FAULTS))
@pytest.mark.parametrize("values", [{}, VALUES], ids=["without-values", "with-values"])
def test_it_explains_our_own_refusals(code: str, values: dict[str, Any]) -> None:
    explanation = _explain("Client Id, Scope", code=code, stage=Stage.SETTINGS, **values)

    assert explanation.signature is None
    _check_fit_for_people(explanation)


def test_what_is_missing_is_named() -> None:
    assert "Client Id, Scope" in _explain("Client Id, Scope", code="incomplete", stage=Stage.SETTINGS).meaning


def test_a_blocked_token_url_points_at_its_field() -> None:
    assert _explain("Refused.", code="blocked", stage=Stage.TOKEN).field == "token_url"
    assert _explain("Refused.", code="blocked", stage=Stage.RESOLVE).field == "smtp_host"


UNKNOWN_TEXTS = {
    "timeout": "the deadline of 60 s for this command has passed",
    "cut": "the peer closed the stream",
    "later": "471 4.9.9 not tonight",
    "refused": "571 5.9.9 never",
    "other": "the moon is full",
}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("text", UNKNOWN_TEXTS.values(), ids=UNKNOWN_TEXTS.keys())
def test_an_unknown_error_is_still_placed(stage: Stage, text: str) -> None:
    explanation = _explain(text, stage=stage, provider="fastmail", **VALUES)

    assert explanation.signature is None
    assert "Most likely" in explanation.meaning
    _check_fit_for_people(explanation)


@pytest.mark.parametrize("stage", [Stage.TOKEN, Stage.AUTH, Stage.MESSAGE])
def test_kinds_of_unknown_errors_have_different_words(stage: Stage) -> None:
    explanations = [_explain(text, stage=stage, provider="fastmail") for text in UNKNOWN_TEXTS.values()]

    assert len({explanation.headline for explanation in explanations}) == len(UNKNOWN_TEXTS)
    assert len({explanation.meaning for explanation in explanations}) == len(UNKNOWN_TEXTS)


def test_an_unknown_temporary_refusal_is_retried_and_a_lasting_one_is_not() -> None:
    assert _explain(UNKNOWN_TEXTS["later"], stage=Stage.MESSAGE).action == "retry"
    assert _explain(UNKNOWN_TEXTS["refused"], stage=Stage.MESSAGE).action == "permanent"
    assert _explain(UNKNOWN_TEXTS["refused"], stage=Stage.AUTH).action == "fix_provider"


def test_a_timeout_is_known_by_its_code_alone() -> None:
    assert "did not answer in time while signing in" in _explain("", code="timed_out").headline


def test_a_reply_outweighs_words_in_its_text() -> None:
    assert _explain("571 the connection was closed", provider="fastmail").action == "fix_provider"


@pytest.mark.parametrize(
    ("provider", "opening"),
    [
        ("microsoft365", "Microsoft "),
        ("google", "Google "),
        ("other", "The provider "),
        ("sandbox", "The sandbox "),
        ("", "The provider "),
        ("never-heard-of", "The provider "),
    ],
)
def test_the_headline_names_the_culprit(provider: str, opening: str) -> None:
    assert _explain("invalid_grant", stage=Stage.TOKEN, provider=provider).headline.startswith(opening)


def test_a_host_called_localhost_keeps_its_name() -> None:
    assert _explain("535 no", provider="other", smtp_host="localhost").headline.startswith("localhost does")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00\x01\ufffe",
        "\ud800",
        "{host}[{port}]",
        "550 " * 100_000,
        "(((((" * 50_000,
        "\n" * 100_000,
        "٥٣٥ 5.7.3",
        "HTTPSConnectionPool" * 10_000,
        "é" * 100_000,
    ],
    ids=range(10),
)
@pytest.mark.parametrize("stage", list(Stage))
def test_it_never_fails_and_takes_no_time(text: str, stage: Stage) -> None:
    before = time.process_time()
    explanation = _explain(text, stage=stage, provider="other", token_url="https://[", smtp_port=None, login="")

    assert time.process_time() - before < 3
    assert all(_said(explanation))
    assert all(len(sentence) < 1_000 for sentence in _said(explanation))


def test_it_says_what_is_not_the_problem() -> None:
    assert cleared(Stage.SETTINGS) == ""
    assert cleared(Stage.TOKEN) == "The server, port and encryption are fine."
    later = [cleared(stage) for stage in Stage if stage is not Stage.SETTINGS]
    assert all(sentence.endswith("fine.") or sentence.endswith(("complete.", "known.")) for sentence in later)
