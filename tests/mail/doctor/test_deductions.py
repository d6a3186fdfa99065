"""What several facts say together: each deduction where it holds, and the near misses where it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from mail.doctor.deduction_words import DEDUCED
from mail.doctor.deductions import Situation, connection_facts, deduce, looks_like_id
from mail.errors import Family, Stage
from mail.explain import explain
from mail.signatures import Action
from models.connection import Connection, Health, TokenSource
from security.secret import Secret
from tests.mail.doctor.situations import (
    ADMIN,
    CASES,
    CLAIMS,
    MAILBOX,
    NO_TLS,
    NOT_YET,
    NOW,
    SILENT,
    TENANT,
    VALUES,
    changed,
)


@pytest.mark.parametrize(("situation", "code"), CASES.values(), ids=CASES.keys())
def test_it_deduces_what_the_facts_carry_and_no_more(situation: Situation, code: str | None) -> None:
    found = deduce(situation)
    assert (found and found.code) == code


BANNED = re.compile(r"(?i)\b(?:please|oops|invalid|successfully)\b|!")
LEFTOVER = re.compile(r"[{}\[\]]")


@pytest.mark.parametrize(
    "situation", [one for one, code in CASES.values() if code], ids=[name for name, (_, code) in CASES.items() if code]
)
def test_every_deduction_is_told_in_whole_sentences(situation: Situation) -> None:
    found = deduce(situation)
    assert found is not None
    explanation = explain(
        situation.detail,
        stage=situation.stage,
        family=situation.family,
        provider=situation.provider,
        code=found.code,
        values={**situation.values, **found.values},
    )
    said = [explanation.headline, explanation.meaning, *explanation.steps]
    assert explanation.signature is None
    assert explanation.steps
    assert explanation.action in {action.value for action in Action}
    assert explanation.side in {"settings", "provider", "network", "us"}
    for sentence in said:
        assert sentence == sentence.strip() != ""
        assert not LEFTOVER.search(sentence), sentence
        assert not BANNED.search(sentence), sentence
    assert not any(LEFTOVER.search(command) for command in explanation.commands)
    assert not explanation.headline.endswith(".")


def test_every_deduction_that_has_words_is_made_and_the_other_way_round() -> None:
    assert {code for _, code in CASES.values() if code} == set(DEDUCED)


def test_a_wrong_identity_names_whose_the_token_is_and_who_was_asked_for() -> None:
    found = deduce(CASES["consent by the administrator"][0])
    assert found is not None
    explanation = explain(
        "",
        stage=Stage.AUTH,
        family=Family.SMTP,
        provider="microsoft365",
        code=found.code,
        values={**VALUES, **found.values},
    )
    assert explanation.headline == f"The token belongs to {ADMIN}, but the sign-in is for {MAILBOX}"
    assert explanation.field == "login"
    assert (
        explanation.commands[1] == f"Add-MailboxPermission -Identity {MAILBOX} -User {ADMIN} -AccessRights FullAccess"
    )


def test_switched_off_and_wrong_identity_are_different_faults_with_different_commands() -> None:
    off, wrong = (deduce(CASES[name][0]) for name in ("off for the mailbox", "a token of the administrator"))
    assert off is not None
    assert wrong is not None
    assert DEDUCED[off.code].action == "fix_provider"
    assert DEDUCED[wrong.code].action == "reauthorize"
    assert not set(DEDUCED[off.code].commands) & set(DEDUCED[wrong.code].commands)
    assert off.values == {"token_user": MAILBOX, "asked_for": MAILBOX}


def test_a_token_for_graph_is_called_by_its_name() -> None:
    found = deduce(CASES["a graph token"][0])
    assert found is not None
    explanation = explain(
        "",
        stage=Stage.AUTH,
        family=Family.SMTP,
        provider="microsoft365",
        code=found.code,
        values={**VALUES, **found.values},
    )
    assert explanation.headline == "The token is for Microsoft Graph, not for Exchange Online"
    assert explanation.steps[0].startswith("Set Scope to https://outlook.office.com/SMTP.Send offline_access")
    assert explanation.field == "scope"


def test_the_learned_tenant_is_offered() -> None:
    found = deduce(changed(CASES["a single-tenant app by common"][0], connection={"tenant": TENANT}))
    assert found is not None
    assert found.values == {"named_tenant": "common", "learned_tenant": TENANT}


@pytest.mark.parametrize(
    ("port", "code", "good"),
    [(587, "implicit_tls_here", "465"), (2587, "implicit_tls_here", "2465"), (2465, "starttls_here", "2587")],
    ids=str,
)
def test_the_port_to_use_instead_is_named_even_if_it_was_not_tried(port: int, code: str, good: str) -> None:
    base, speaks = (SILENT, "implicit_tls") if code == "implicit_tls_here" else (NO_TLS, "starttls")
    found = deduce(changed(base, probe={"speaks": speaks}, values={"smtp_port": port}))
    assert found is not None
    assert (found.code, dict(found.values)) == (code, {"good_port": good})


@pytest.mark.parametrize(
    ("skew_s", "words"),
    [(259_200.0, "about 3 days behind"), (7_200.0, "about 2 hours behind"), (150.0, "about 2 minutes behind")],
    ids=str,
)
def test_how_far_the_clock_is_off_is_said_in_words(skew_s: float, words: str) -> None:
    found = deduce(changed(NO_TLS, detail=NOT_YET, facts={Stage.TOKEN: {"clock_skew_s": skew_s}}))
    assert found is not None
    assert found.values == {"clock_off": words}


@pytest.mark.parametrize("junk", [None, 5, "x", [], {"a": []}, float("nan")], ids=repr)
def test_odd_facts_raise_nothing(junk: Any) -> None:
    for situation, _ in CASES.values():
        deduce(replace(situation, values=dict.fromkeys(VALUES, junk)))
        deduce(replace(situation, facts={Stage.TOKEN: {"claims": junk, "clock_skew_s": junk, "scope": junk}}))
        deduce(replace(situation, facts={Stage.TOKEN: {"claims": dict.fromkeys(CLAIMS, junk)}}))
        deduce(replace(situation, probe={"speaks": junk, "other_port": junk, "other_speaks": junk}))
        deduce(replace(situation, connection=dict.fromkeys(("consented_at", "consented_as", "tenant"), junk)))


@pytest.mark.parametrize(
    ("secret", "is_id"),
    [
        ("1b2c3d4e-0000-4000-8000-000000000000", True),
        (" 1B2C3D4E-0000-4000-8000-00000000000F ", True),
        ("fake8Q~not-a-real-secret-value-for-tests", False),
        ("", False),
    ],
    ids=["an id", "an id with blanks", "a value", "empty"],
)
def test_an_id_is_told_from_a_secret_by_its_form(secret: str, is_id: bool) -> None:
    assert looks_like_id(Secret(secret)) is is_id


def test_no_secret_is_no_id() -> None:
    assert not looks_like_id(None)


def test_a_connection_tells_who_consented_when_and_when_it_was_lost() -> None:
    connection = Connection(
        account=ADMIN,
        account_tenant=TENANT,
        connected_at=NOW,
        refreshed_at=NOW,
        refresh_token_source=TokenSource.CONNECT,
        health=Health.NEEDS_REAUTHORIZATION,
        health_since=NOW,
    )
    at = NOW.isoformat()
    assert connection_facts(connection) == {
        "consented_as": ADMIN,
        "consented_at": at,
        "tenant": TENANT,
        "refreshed_at": at,
        "lost_at": at,
    }


def test_of_a_pasted_token_nobody_knows_who_consented() -> None:
    connection = Connection(account=ADMIN, connected_at=NOW, refresh_token_source=TokenSource.PASTED)
    assert connection_facts(connection) == {}
    assert connection_facts(None) == {}
