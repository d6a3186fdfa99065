"""Replies as providers send them, through the border that reads them, to the explanation.

The expectations of `reply_samples.csv` were taken from errors.csv by hand: the row (none: not in the catalogue), its
action, the side to look at and the field of the form to mend.
"""

import csv
import re
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mail import token_endpoint
from mail.errors import Family, MailError, Stage
from mail.explain import Explanation, explain
from mail.smtp import faults as smtp_faults
from mail.smtp import sasl
from mail.smtp.records import SMTPReply
from security.outbound import Door
from security.secret import Secret

Sample = dict[str, str]

SAMPLES: list[Sample] = list(
    csv.DictReader(Path(__file__).with_name("reply_samples.csv").read_text(encoding="utf-8").splitlines())
)
STORE = {
    "client_id": "1b2c3d4e-0000-4000-8000-000000000000",
    "tenant_id": "common",
    "from_email": "sales@acme.example",
    "login": "orders@acme.example",
    "redirect_uri": "https://mail.shop.example/oauth/callback",
}


class _Answering:
    """A door behind which a token endpoint gives one answer."""

    def __init__(self, status: int, body: str) -> None:
        self._answer = SimpleNamespace(status=status, body=body.encode(), headers=Message())

    def post_form(self, *_: object, **__: object) -> Any:
        return self._answer


def _token_error(sample: Sample) -> MailError:
    call = token_endpoint.TokenCall(
        provider=sample["provider"],
        token_url=f"https://{sample['host']}/token",
        client_id=STORE["client_id"],
        client_secret=Secret("not-in-any-sample"),
        grant_type="client_credentials",
    )
    status = int(sample["kind"].removeprefix("http "))
    # "\\n" between members is a line end of the body; "\\r\\n" inside a text is JSON's own spelling.
    body = re.sub(r"(?<!\\r)\\n", "\n", sample["raw"])
    with pytest.raises(MailError) as caught:
        token_endpoint.call(call, door=cast("Door", _Answering(status, body)))
    return caught.value


def _smtp_error(sample: Sample, stage: Stage) -> MailError:
    lines = sample["raw"].split("\\r\\n")
    challenge = sample["kind"].partition(" ")[2]
    return smtp_faults.from_reply(
        SMTPReply(int(lines[-1][:3]), tuple(line[4:] for line in lines)),
        stage=stage,
        code="refused",
        provider=sample["provider"],
        challenge=sasl.decode_challenge(challenge) if challenge else "",
    )


def _explained(sample: Sample) -> Explanation:
    stage = Stage(sample["stage"])
    family = Family.TOKEN if stage is Stage.TOKEN else Family.SMTP
    values = {**STORE, "token_url": f"https://{sample['host']}/token", "smtp_host": sample["host"], "smtp_port": 587}
    if sample["kind"] == "fault":
        return explain(sample["raw"], stage=stage, family=family, provider=sample["provider"], values=values)
    error = _token_error(sample) if family is Family.TOKEN else _smtp_error(sample, stage)
    return explain(
        error.detail, stage=stage, family=family, provider=sample["provider"], code=error.code, values=values
    )


def test_the_samples_are_many_and_each_has_a_name() -> None:
    names = {sample["id"] for sample in SAMPLES}

    assert len(names) == len(SAMPLES) >= 40


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_it_explains_a_reply_as_the_provider_sends_it(sample: Sample) -> None:
    explanation = _explained(sample)

    found = {
        "row": str(explanation.signature or ""),
        "action": explanation.action,
        "side": explanation.side,
        "field": explanation.field or "",
    }
    assert found == {name: sample[name] for name in found}
    assert explanation.steps


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_a_headline_blames_no_vendor_whose_server_it_was_not(sample: Sample) -> None:
    vendors = {"Microsoft": ("microsoft", "outlook", "office365"), "Gmail": ("gmail",), "Google": ("google", "gmail")}
    headline = _explained(sample).headline

    for name, marks in vendors.items():
        if name in headline:
            assert any(mark in sample["host"] for mark in marks), headline


@pytest.mark.parametrize("sample", [one for one in SAMPLES if not one["row"]], ids=lambda sample: sample["id"])
def test_an_unknown_reply_says_where_it_stopped_who_is_likely_and_what_to_try(sample: Sample) -> None:
    explanation = _explained(sample)
    doing = {"sender": "offering the sender", "auth": "signing in", "greet": "greeting", "token": "getting an access"}

    assert doing[sample["stage"]] in explanation.headline
    assert "Most likely" in explanation.meaning
    assert explanation.steps


def test_switched_off_and_wrong_identity_stay_two_faults_whatever_the_language() -> None:
    by_id = {sample["id"]: _explained(sample) for sample in SAMPLES}
    off, wrong = by_id["exchange-german-policy"], by_id["exchange-french-identity"]

    assert any("Tick Authenticated SMTP" in step for step in off.steps)
    assert not any("Tick Authenticated SMTP" in step for step in wrong.steps)
    assert any("Press Connect and sign in as orders@acme.example itself" in step for step in wrong.steps)
    assert off.action != wrong.action
