"""The description of the API, for programs and for people: both are made from `openapi.document`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, make_response, render_template

from blueprints.api import openapi
from blueprints.web import equipment

Schema = dict[str, Any]

_DOCUMENT = "storepost_openapi"
_WORDS = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "object"}
_FORMATS = {"idn-email": "address", "date-time": "time", "uri-reference": "web address"}


@dataclass(frozen=True)
class Field:
    """One line of a table: what may or will stand under this name."""

    name: str
    kind: str
    description: str
    is_required: bool = False


@dataclass(frozen=True)
class Answer:
    status: str
    description: str
    schema: str = ""


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    description: str
    scope: str
    parameters: list[Field]
    body: str
    answers: list[Answer]
    call: str
    example: str


@dataclass(frozen=True)
class Group:
    name: str
    description: str
    operations: list[Operation]


def document() -> Response:
    """The document as JSON."""
    return Response(json.dumps(_load()), mimetype="application/json")


def page() -> Response:
    """The document as a page."""
    found = _load()
    schemas, groups = found["components"]["schemas"], _groups(found)
    return make_response(
        render_template(
            "api/docs.html",
            guide=openapi.GUIDE,
            groups=groups,
            schemas={name: (schema["description"], _fields(schema)) for name, schema in schemas.items()},
            sent=[one.body for group in groups for one in group.operations],
            server=found["servers"][0]["url"],
        )
    )


def _load() -> dict[str, Any]:
    # It changes only with the program and its public address.
    known: dict[str, Any] | None = current_app.extensions.get(_DOCUMENT)
    if known is None:
        known = current_app.extensions[_DOCUMENT] = openapi.document(equipment().public_url)
    return known


def _groups(found: dict[str, Any]) -> list[Group]:
    operations = [
        (one, _operation(method, path, one, found))
        for path, methods in found["paths"].items()
        for method, one in methods.items()
    ]
    return [
        Group(tag["name"], tag["description"], [shown for one, shown in operations if tag["name"] in one["tags"]])
        for tag in found["tags"]
    ]


def _operation(method: str, path: str, one: dict[str, Any], found: dict[str, Any]) -> Operation:
    parameters = [_resolved(parameter, found) for parameter in one.get("parameters", [])]
    body = one.get("requestBody", {}).get("content", {}).get(openapi.JSON, {})
    answers = [(status, _resolved(answer, found)) for status, answer in sorted(one["responses"].items())]
    success = answers[0][1]["content"][openapi.JSON]
    keys = one.get("security", [{}])
    return Operation(
        id=one["operationId"],
        method=method.upper(),
        path=path,
        summary=one["summary"],
        description=one["description"],
        scope=", ".join(scope for need in keys for scopes in need.values() for scope in scopes),
        parameters=[
            Field(p["name"], _kind(p["schema"]), p["description"], p.get("required", False)) for p in parameters
        ],
        body=_name(body.get("schema", {})),
        answers=[
            Answer(status, answer["description"], _name(next(iter(answer["content"].values()))["schema"]))
            for status, answer in answers
        ],
        call=_call(method, path, bool(keys), body.get("example"), found["servers"][0]["url"]),
        example=_pretty(success["example"]) if "example" in success else "",
    )


def _call(method: str, path: str, needs_key: bool, body: Any, server: str) -> str:
    """A command that makes the call; the key and the message's id are to be filled in."""
    verb = "curl -X POST" if method == "post" and body is None else "curl"
    lines = [f"{verb} {server}{path.replace('{id}', '$ID')}"]
    if needs_key:
        lines.append('-H "Authorization: Bearer $KEY"')
    if body is not None:
        lines += ["-H 'Content-Type: application/json'", "-H 'Idempotency-Key: order-1001'", f"-d '{_pretty(body)}'"]
    return " \\\n  ".join(lines)


def _pretty(value: Any) -> str:
    """JSON in lines, a list of one text in one of them."""
    return re.sub(r"\[\s+(\"[^\"]*\")\s+\]", r"[\1]", json.dumps(value, indent=2, ensure_ascii=False))


def _resolved(value: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _name(schema: Schema) -> str:
    """The schema that a reference leads to, by name."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _fields(schema: Schema, prefix: str = "") -> list[Field]:
    """Every property with those of the objects inside, each under its path."""
    fields = []
    for name, inner in schema["properties"].items():
        path = f"{prefix}{name}"
        is_required = name in schema.get("required", ())
        fields.append(Field(path, _kind(inner), inner.get("description", ""), is_required))
        items = inner.get("items", inner)
        if "properties" in items:
            fields += _fields(items, f"{path}[]." if items is not inner else f"{path}.")
    return fields


def _kind(schema: Schema) -> str:
    """What a value is, in words: "list of addresses", "one of high, normal, low"."""
    types = schema.get("type", [])
    kinds = [kind for kind in ([types] if isinstance(types, str) else types) if kind != "null"]
    nullable = " or null" if not isinstance(types, str) and "null" in types else ""
    if name := _name(schema):
        return name
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"] if value is not None) + nullable
    if kinds == ["array"]:
        return f"list of {_plural(schema['items'])}{nullable}"
    word = _FORMATS.get(schema.get("format", ""), _WORDS.get(kinds[0] if kinds else "", "anything"))
    return f"{word}{_limits(schema)}{nullable}"


def _plural(items: Schema) -> str:
    named = [_name(one) for one in items.get("oneOf", items.get("anyOf", [items]))]
    if any(named):
        return " or ".join(filter(None, named))
    return "addresses" if items.get("format") == "idn-email" else "objects"


def _limits(schema: Schema) -> str:
    if schema.get("maxLength"):
        return f", at most {schema['maxLength']} characters"
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']:,}"
    return ""
