"""Every no under /api/ is a problem document (RFC 9457), whoever says it: a view, the router, a limit, our fault."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.blueprints.api.calls import Call, Send
from tests.conftest import Browser

UID = "0" * 32


def is_problem(answer: TestResponse, status: int) -> None:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json["status"] == status
    assert answer.json["type"] == "about:blank"
    assert answer.json["title"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/messages/0"),
        ("GET", f"/messages/{UID}0"),
        ("GET", "/messages/%00"),
        ("POST", f"/messages/{UID}"[:-1] + "/cancel"),
        ("GET", "/messages/"),
    ],
)
def test_an_unknown_path_is_one(call: Call, method: str, path: str) -> None:
    is_problem(call(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/messages", {"GET", "POST"}),
        ("PUT", "/messages/batch", {"POST"}),
        ("GET", "/messages/batch", {"POST"}),
        ("DELETE", f"/messages/{UID}", {"GET"}),
        ("GET", f"/messages/{UID}/cancel", {"POST"}),
        ("POST", "/openapi.json", {"GET"}),
        ("POST", "/docs", {"GET"}),
    ],
)
def test_another_method_is_one_and_names_those_there_are(call: Call, method: str, path: str, allowed: set[str]) -> None:
    answer = call(method, path)
    is_problem(answer, 405)
    assert set(answer.allow) - {"HEAD", "OPTIONS"} == {name.upper() for name in allowed}


@pytest.mark.parametrize("path", ["/messages", "/messages/batch"])
def test_too_large_a_body_is_one(call: Call, path: str) -> None:
    is_problem(call("POST", path, raw=" " * (37 * 1024 * 1024), Content_Type="application/json"), 413)


@pytest.mark.parametrize("path", ["/messages", "/messages/batch"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_kind_of_body_is_one(call: Call, path: str, kind: str) -> None:
    is_problem(call("POST", path, raw="{}", Content_Type=kind), 415)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/messages"),
        ("POST", "/messages/batch"),
        ("GET", "/messages"),
        ("GET", f"/messages/{UID}"),
        ("POST", f"/messages/{UID}/cancel"),
    ],
)
def test_no_call_works_without_a_key(call: Call, method: str, path: str) -> None:
    for authorization in ("", "Bearer", "Basic c3A6eA==", f"Bearer sp_{'A' * 43}"):
        answer = call(method, path, {} if method == "POST" else None, Authorization=authorization)
        is_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_wrong_host_is_one(client: Browser) -> None:
    answer = client.get("/api/v1/messages", base_url="http://elsewhere.example")
    is_problem(answer, 400)


def test_a_nul_in_the_query_is_one(call: Call) -> None:
    is_problem(call("GET", "/messages?cursor=%00"), 400)


def test_our_own_fault_is_one_with_a_number_that_the_log_has_too(
    call: Call, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*args: Any) -> None:
        raise RuntimeError("words that only we may read")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("blueprints.api.answers.messages_of", break_down)
    with caplog.at_level(logging.ERROR):
        answer = call("GET", "/messages")
    is_problem(answer, 500)
    assert "words" not in answer.text
    assert answer.json["incident"] in caplog.text


def test_a_good_answer_is_none(send: Send) -> None:
    assert send().mimetype == "application/json"
