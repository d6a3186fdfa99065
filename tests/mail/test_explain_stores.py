"""What an explanation makes of the store it is for: its grant, its cloud, its way of signing in, what was deduced."""

import csv
from pathlib import Path
from typing import Any

import pytest

from mail.doctor.deduction_words import DEDUCED
from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from mail.fault_words import OwnFault
from mail.password_words import PASSWORD_FAULTS

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
SAMPLES = list(
    csv.DictReader(Path(__file__).with_name("signature_samples.csv").read_text(encoding="utf-8").splitlines())
)


def _explain(
    text: str, *, stage: Stage = Stage.AUTH, provider: str = "microsoft365", code: str = "", **values: Any
) -> Explanation:
    family = Family.TOKEN if stage is Stage.TOKEN else Family.SMTP
    return explain(text, stage=stage, family=family, provider=provider, code=code, values=values)


def test_smtp_sign_in_can_be_switched_on_for_the_mailbox_and_for_the_organization() -> None:
    explanation = _explain("535 5.7.139 SmtpClientAuthentication is disabled for the Tenant", **VALUES)
    tenant = "Set-TransportConfig -SmtpClientAuthenticationDisabled $false"

    assert explanation.commands[1].startswith("Set-CASMailbox -Identity orders@acme.example ")
    assert any(tenant in step for step in explanation.steps)
    # Whoever copies the whole block switches on the one mailbox and no more.
    assert [line for line in explanation.commands if tenant in line and not line.startswith("#")] == []
    assert all("#" not in step for step in explanation.steps)


@pytest.mark.parametrize(
    ("grant", "wanted", "unwanted"),
    [
        ("authorization_code", "Press Connect and sign in", "New-ServicePrincipal"),
        ("client_credentials", "New-ServicePrincipal", "Press Connect"),
    ],
)
def test_only_the_steps_of_the_stores_own_grant_are_shown(grant: str, wanted: str, unwanted: str) -> None:
    explanation = _explain("535 5.7.3 Authentication unsuccessful", **VALUES, grant_type=grant)
    text = " ".join((*explanation.steps, *explanation.commands))

    assert wanted in text
    assert unwanted not in text
    assert "With " not in text


def test_an_app_without_a_grant_is_not_sent_to_connect() -> None:
    explanation = _explain("535 5.7.3 Authentication unsuccessful", **VALUES, grant_type="client_credentials")

    assert explanation.action == "fix_provider"


@pytest.mark.parametrize("grant", ["", "authorization_code", "client_credentials"])
def test_a_right_to_send_is_given_to_one_trustee(grant: str) -> None:
    explanation = _explain("550 5.7.60 SMTP; Client does not have permissions", **VALUES, grant_type=grant)
    given = [line for line in explanation.commands if line.startswith("Add-RecipientPermission")]

    assert len(given) == 1
    assert ("$app.Identity" in given[0]) == (grant == "client_credentials")


@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("smtp.office365.com", ""),
        ("smtp.office365.us", " -ExchangeEnvironmentName O365USGovGCCHigh"),
        ("outlook-dod.office365.us", " -ExchangeEnvironmentName O365USGovDoD"),
        ("smtp.partner.outlook.cn", " -ExchangeEnvironmentName O365China"),
    ],
)
def test_powershell_connects_to_the_cloud_of_the_store(host: str, options: str) -> None:
    explanation = _explain("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", smtp_host=host)

    assert explanation.commands[0] == f"Connect-ExchangeOnline{options}"


PASSWORD_STORE = {"smtp_host": "smtp.acme.example", "smtp_port": 587, "login": "orders", "from_email": "a@acme.example"}


@pytest.mark.parametrize("number", sorted(PASSWORD_FAULTS))
def test_a_store_that_signs_in_with_a_password_is_told_about_the_password(number: int) -> None:
    sample = SAMPLES[number - 1]
    explanation = _explain(sample["text"], provider=sample["provider"], **PASSWORD_STORE, method="smtp")
    said = (explanation.headline, explanation.meaning, *explanation.steps)

    assert explanation.signature == number
    assert explanation.field in ("username", "password", "smtp_port")
    assert "token" not in " ".join(said)
    assert not any(mark in " ".join(said) for mark in "{}[]")


def test_the_password_words_are_for_passwords_only() -> None:
    assert _explain("535 no", provider="other", **PASSWORD_STORE).field == "password"
    assert _explain("535 no", provider="other", **PASSWORD_STORE, method="advanced_smtp").action == "reauthorize"


def test_a_custom_provider_is_named_by_its_host() -> None:
    assert _explain("invalid_grant", stage=Stage.TOKEN, provider="other", **VALUES).headline.startswith(
        "login.acme.example no longer accepts"
    )


def test_a_word_of_the_token_endpoint_is_not_taken_for_one_of_ours() -> None:
    theirs = _explain("HTTP 400 withdrawn: the grant is gone", stage=Stage.TOKEN, code="withdrawn", provider="other")

    assert theirs.headline != _explain("", stage=Stage.MESSAGE, code="withdrawn").headline
    assert "refused while getting an access token" in theirs.headline


def test_deductions_are_explained_beside_our_own_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = OwnFault(
        "{consented_as} gave consent",
        "Not {mailbox}.",
        ("Run {command}",),
        *("reauthorize", "login", "settings"),
        commands=("Get-CASMailbox -Identity {mailbox}",),
    )
    monkeypatch.setitem(DEDUCED, "other_identity", fault)

    explanation = _explain("535 no", code="other_identity", **VALUES, consented_as="admin@acme.example")

    assert explanation.headline == "admin@acme.example gave consent"
    assert explanation.steps == ("Run Connect-ExchangeOnline; Get-CASMailbox -Identity orders@acme.example",)
