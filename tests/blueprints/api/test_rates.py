"""The rate headers, and the answer beyond the limit."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from blueprints.api.gate import RATES
from extensions import db as database
from mail.api_rates import RequestRates
from models import APIKey
from models.api_usage import APIUsage
from tests.blueprints.api.calls import MESSAGE, Call, count, key_of_another_store

MINUTE = 29_000_000


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = MINUTE * 60 + 29.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(app: Flask) -> Clock:
    """Three requests a minute, by a clock of our own."""
    clock = Clock()
    app.extensions[RATES] = RequestRates(3, clock=clock)
    return clock


def test_every_answer_to_a_key_tells_where_it_stands(call: Call, clock: Clock) -> None:
    answer = call("POST", "/messages", MESSAGE)
    assert answer.headers["RateLimit-Policy"] == '"key";q=3;w=60'
    assert answer.headers["RateLimit"] == '"key";r=2;t=31'
    refused = call("POST", "/messages", {})
    assert (refused.status_code, refused.headers["RateLimit"]) == (422, '"key";r=1;t=31')
    missing = call("GET", f"/messages/{'0' * 32}")
    assert (missing.status_code, missing.headers["RateLimit"]) == (404, '"key";r=0;t=31')


def test_beyond_the_limit_it_answers_429_until_the_minute_is_over(call: Call, clock: Clock) -> None:
    for _ in range(3):
        assert call("POST", "/messages", MESSAGE).status_code == 202
    for _ in range(3):
        answer = call("POST", "/messages", MESSAGE)
        assert (answer.status_code, answer.mimetype) == (429, "application/problem+json")
        assert (answer.headers["Retry-After"], answer.headers["RateLimit"]) == ("31", '"key";r=0;t=31')
    assert count() == 3
    clock.now += 31
    assert call("POST", "/messages", MESSAGE).headers["RateLimit"] == '"key";r=2;t=60'


def test_one_key_does_not_use_up_anothers(call: Call, clock: Clock) -> None:
    for _ in range(4):
        call("GET", "/messages")
    assert call("GET", "/messages").status_code == 429
    assert call("GET", "/messages", Authorization=key_of_another_store()).status_code == 200


def test_whoever_has_no_key_is_told_nothing_and_counts_nothing(call: Call, clock: Clock) -> None:
    for _ in range(5):
        answer = call("GET", "/messages", Authorization="Bearer wrong")
        assert (answer.status_code, "RateLimit" in answer.headers) == (401, False)
    assert call("GET", "/messages").headers["RateLimit"] == '"key";r=2;t=31'


def test_a_batch_is_one_request(call: Call, clock: Clock) -> None:
    assert call("POST", "/messages/batch", {"messages": [MESSAGE] * 10}).headers["RateLimit"] == '"key";r=2;t=31'


def test_a_limit_of_0_is_none(call: Call, app: Flask) -> None:
    app.extensions[RATES] = RequestRates(0)
    answer = call("POST", "/messages", MESSAGE)
    assert answer.status_code == 202
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers
    database.session.rollback()
    assert database.session.scalar(select(func.count()).select_from(APIUsage)) == 0
    assert database.session.scalars(select(APIKey.last_used_at)).one() is not None


def test_12000_a_minute_are_what_nobody_has_to_set(call: Call) -> None:
    headers = call("GET", "/messages").headers
    assert headers["RateLimit-Policy"] == '"key";q=12000;w=60'
    assert re.fullmatch(r'"key";r=11999;t=([1-9]|[1-5][0-9]|60)', headers["RateLimit"])


def test_a_table_that_cannot_be_written_lets_requests_pass(call: Call, clock: Clock, db: Any) -> None:
    db.session.connection().exec_driver_sql("DROP TABLE api_usage")
    db.session.commit()
    assert call("POST", "/messages", MESSAGE).status_code == 202
    assert call("POST", "/messages", MESSAGE).headers["RateLimit"] == '"key";r=1;t=31'
