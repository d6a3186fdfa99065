"""The programs that applications really use, encrypted, with their own idea of how to say it."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import ssl
import subprocess
import textwrap
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest

from relay import Relay
from tests.fakes import tools
from tests.fakes.certs import CA, ServerCert
from tests.relay.peer import CODE, stored

SUBJECTS = ["Ihre Bestellung № 1", "Grüße" + " sehr langer Betreff" * 20]


@pytest.fixture(params=["PLAIN", "LOGIN"])
def wish(
    request: pytest.FixtureRequest, start: Callable[..., Relay], cert: ServerCert, ca: CA, key: str
) -> dict[str, Any]:
    """What a client is to do, by either way to sign in."""
    return {
        "port": start(cert=cert).port,
        "user": CODE,
        "key": key,
        "method": request.param,
        "ca_file": ca.cert_file,
        "subjects": SUBJECTS,
    }


def tool(name: str, found: str | None) -> str:
    """The program, or a skip: never in CI, where all of them must be there."""
    if found is None:
        assert not os.environ.get("CI"), f"{name} must be there in CI"
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, given: str = "", **environment: str) -> str:
    """What the program printed; it must succeed."""
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(answers: str, *, subjects: list[str]) -> None:
    """Every message is in the outbox under the id that the client was told, with its blind copy."""
    messages = stored()
    assert sorted(message.subject for message in messages) == sorted(subjects)
    for message in messages:
        assert f"Queued as {message.uid}" in answers
        kinds = {one.address: one.kind.value for one in message.recipients}
        assert kinds == {"lena@shop.example": "to", "quiet@shop.example": "bcc"}


def test_smtplib(wish: dict[str, Any]) -> None:
    answers = []
    with smtplib.SMTP("127.0.0.1", wish["port"]) as client:
        client.starttls(context=ssl.create_default_context(cafile=wish["ca_file"]))
        client.ehlo()
        client.user, client.password = wish["user"], wish["key"]
        client.auth(wish["method"], getattr(client, f"auth_{wish['method'].lower()}"))
        for subject in wish["subjects"]:
            message = EmailMessage()
            message["From"], message["To"] = "Shop <shop@elsewhere.example>", "Lena <lena@shop.example>"
            message["Subject"] = subject
            message.set_content("Grüße\n.\nvon uns\n")
            message.add_alternative("<p>Grüße</p>", subtype="html")
            message.add_attachment(b"\x07" * 3000, maintype="application", subtype="pdf", filename="rechnung.pdf")
            assert client.mail("shop@elsewhere.example")[0] == 250
            for address in ("lena@shop.example", "quiet@shop.example"):
                assert client.rcpt(address)[0] == 250
            code, answer = client.data(message.as_bytes())
            assert code == 250
            answers.append(answer.decode())
    check("\n".join(answers), subjects=SUBJECTS)


def test_swaks(wish: dict[str, Any]) -> None:
    swaks = tool("swaks", tools.swaks())
    message = textwrap.dedent("""\
        From: Shop <shop@elsewhere.example>
        To: Lena <lena@shop.example>
        Subject: Order 1

        Good morning.
        .
        That was a line of one dot.
        """)
    answers = run(
        swaks, "--server", "127.0.0.1", "--port", str(wish["port"]), "--tls", "--tls-verify",
        "--tls-ca-path", wish["ca_file"], "--auth", wish["method"], "--auth-user", wish["user"],
        "--auth-password", wish["key"], "--from", "shop@elsewhere.example",
        "--to", "lena@shop.example,quiet@shop.example", "--data", "-", given=message,
    )  # fmt: skip
    check(answers, subjects=["Order 1"])


def test_nodemailer(wish: dict[str, Any]) -> None:
    modules = tool("Nodemailer", tools.nodemailer())
    script = str(tools.HERE.parent / "relay" / "clients" / "nodemailer.js")
    answers = run(str(shutil.which("node")), script, json.dumps(wish), NODE_PATH=modules)
    check(answers, subjects=SUBJECTS)


def test_phpmailer(wish: dict[str, Any]) -> None:
    autoload = tool("PHPMailer", tools.phpmailer())
    script = str(tools.HERE.parent / "relay" / "clients" / "phpmailer.php")
    check(run(str(shutil.which("php")), script, autoload, json.dumps(wish)), subjects=SUBJECTS)
