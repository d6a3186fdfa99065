"""The OpenAPI document and the page made from it: complete, true, and open to everybody."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from mail import intake
from models.outbox import HoldReason, MessageStatus, RecipientKind
from tests.blueprints.api.calls import MESSAGE, Call, Send
from tests.conftest import Browser


@pytest.fixture
def document(client: Browser) -> dict[str, Any]:
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found: dict[str, Any] = answer.json
    return found


def fits(document: dict[str, Any], name: str, value: Any) -> list[str]:
    """What a value has against a schema of the document."""
    resource = Resource(contents=document, specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:api", resource)
    validator = OAS31Validator({"$ref": f"urn:api#/components/schemas/{name}"}, registry=registry)
    return [error.message for error in validator.iter_errors(value)]


def test_it_is_an_openapi_document(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_it_has_every_call_there_is(app: Flask, document: dict[str, Any]) -> None:
    there_is = {
        (re.sub(r"<[^>]*:uid>", "{id}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.") and rule.endpoint != "api.docs"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == there_is


def test_its_scopes_are_those_that_are_asked_for(app: Flask, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            adapter = app.url_map.bind("localhost")
            endpoint, _ = adapter.match(path.replace("{id}", "0" * 32), method=method.upper())
            access = app.view_functions[endpoint].access  # type: ignore[attr-defined]  # a label of our decorators
            wanted = [f"api key: {scope}" for need in operation["security"] for scope in need["apiKey"]]
            assert wanted == ([access] if access.startswith("api key") else []), path


def test_it_has_every_field_state_and_reason_of_the_rules(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["NewMessage"]["properties"]) == intake.FIELDS
    files = schemas["NewMessage"]["properties"]["attachments"]["items"]["properties"]
    assert set(files) == intake.ATTACHMENT_FIELDS
    told = schemas["Message"]["properties"]
    assert set(told["status"]["enum"]) == set(MessageStatus)
    assert set(told["hold_reason"]["enum"]) == {*HoldReason, None}
    kinds = set(told["recipients"]["items"]["properties"]["kind"]["enum"])
    assert kinds == set(RecipientKind) - {RecipientKind.STORE_BCC}
    for status in MessageStatus:
        assert status.value in told["status"]["description"]
    for reason in HoldReason:
        assert reason.value in told["hold_reason"]["description"]


def test_everything_in_it_is_explained(document: dict[str, Any]) -> None:
    bare: list[str] = []

    def walk(schema: dict[str, Any], path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            if not inner.get("description") and "$ref" not in inner:
                bare.append(f"{path}.{name}")
            walk(inner, f"{path}.{name}")
        if isinstance(schema.get("items"), dict):
            walk(schema["items"], f"{path}[]")

    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        walk(schema, name)
    assert bare == []


def test_its_examples_are_true(document: dict[str, Any]) -> None:
    def resolved(value: dict[str, Any]) -> dict[str, Any]:
        found: Any = document
        for part in value.get("$ref", "#").removeprefix("#").strip("/").split("/"):
            found = found[part] if part else value
        return dict(found)

    seen = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            for holder in (*bodies, *map(resolved, operation["responses"].values())):
                for content in holder["content"].values():
                    if "example" in content:
                        name = content["schema"]["$ref"].rpartition("/")[2]
                        assert fits(document, name, content["example"]) == [], name
                        seen += 1
    assert seen > 40


def test_what_is_sent_as_the_example_says_is_accepted(document: dict[str, Any], call: Call) -> None:
    for path in ("/messages", "/messages/batch"):
        operation = document["paths"][f"/api/v1{path}"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = call("POST", path, example)
        assert answer.status_code in (200, 202), answer.text


def test_answers_are_as_it_says(document: dict[str, Any], send: Send, call: Call) -> None:
    uid = send().json["id"]
    batch = call("POST", "/messages/batch", {"messages": [MESSAGE, {}]}, Idempotency_Key="k").json
    again = call("POST", "/messages/batch", {"messages": [MESSAGE, {}]}, Idempotency_Key="k").json
    for name, value in (
        ("Message", call("GET", f"/messages/{uid}").json),
        ("MessageList", call("GET", "/messages?limit=1").json),
        ("BatchResults", batch),
        ("BatchResults", again),
        ("Problem", send({}).json),
        ("Problem", call("GET", "/nothing").json),
    ):
        assert fits(document, name, value) == [], name


def test_it_names_this_installation(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "http://localhost:8025"}]


# The page


def test_the_page_tells_all_of_it_without_a_session(client: Browser, document: dict[str, Any]) -> None:
    answer = client.get("/api/v1/docs")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    page = answer.text
    assert "csrf" not in page
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f">{operation['summary']}</h2>" in page
    for name, schema in document["components"]["schemas"].items():
        assert f'id="object-{name}"' in page
        for field in schema["properties"]:
            assert f'<code class="anywhere">{field}</code>' in page
    assert page.count('href="#') == len(re.findall(r'href="#[\w-]+"', page))
    for target in set(re.findall(r'href="#([\w-]+)"', page)):
        assert f'id="{target}"' in page, target


def test_the_page_comes_from_us_alone(client: Browser) -> None:
    page = client.get("/api/v1/docs").text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=", page)
