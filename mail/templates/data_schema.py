"""What `data.take` takes, as JSON Schema: the same types, patterns and bounds, so that the two cannot drift apart.

Source: JSON Schema 2020-12, as OpenAPI 3.1 uses it.
"""

from __future__ import annotations

from typing import Any

from mail.intake import BAD_IN_BODY
from mail.templates import values
from mail.templates.data import VALUES_MAX, Shape, shape_of
from mail.templates.kinds import Kind, ValueType

Schema = dict[str, Any]

_NUMBER = {"minimum": -values.NUMBER_MAX, "maximum": values.NUMBER_MAX}


def data_of(kind: Kind) -> Schema:
    """Return the schema of the data that this kind needs; further names are left out when it is rendered."""
    return _object(shape_of(kind), f"The data of the template {kind.key}.", _meanings(kind), "")


def _meanings(kind: Kind) -> dict[str, str]:
    return {variable.path: variable.meaning for variable in kind.variables}


def _object(shape: Shape, description: str, meanings: dict[str, str], path: str) -> Schema:
    prefix = f"{path}." if path else ""
    parts = {name: _any(part, meanings, prefix + name) for name, part in shape.parts.items()}
    required = [name for name, part in shape.parts.items() if _is_required(part)]
    may_be_null = bool(path) and not required and not path.endswith("[]")
    return {
        "type": ["object", "null"] if may_be_null else "object",
        "description": description,
        "properties": parts,
        **({"required": required} if required else {}),
    }


def _is_required(shape: Shape) -> bool:
    if shape.type is ValueType.OBJECT:
        return any(map(_is_required, shape.parts.values()))
    return not shape.is_optional


def _any(shape: Shape, meanings: dict[str, str], path: str) -> Schema:
    description = f"{meanings[path]}." if path in meanings else "What belongs together."
    if shape.type is ValueType.OBJECT:
        return _object(shape, description, meanings, path)
    if shape.type is ValueType.LIST:
        return _list(shape, description, meanings, path)
    found = _single(shape, description)
    return _or_nothing(found) if shape.is_optional else found


def _list(shape: Shape, description: str, meanings: dict[str, str], path: str) -> Schema:
    item = shape.item or Shape(ValueType.TEXT, is_optional=True)
    return {
        "type": ["array", "null"] if shape.is_optional else "array",
        "description": description,
        "items": _object(item, "One of them.", meanings, f"{path}[]"),
        "maxItems": VALUES_MAX // (1 + len(item.parts)),
    }


def _single(shape: Shape, description: str) -> Schema:
    match shape.type:
        case ValueType.MONEY:
            pattern = f"^{values.DECIMAL}$"
            return {"type": ["number", "string"], **_NUMBER, "pattern": pattern, "description": description}
        case ValueType.NUMBER:
            return {"type": "number", **_NUMBER, "description": description}
        case ValueType.FLAG:
            return {"type": "boolean", "description": description}
        case ValueType.DATE:
            either = [{"format": "date"}, {"format": "date-time"}]
            return {"type": "string", "anyOf": either, "description": description}
        case ValueType.URL:
            pattern = f"^(?:{values.WEB_ADDRESS})?$"
            return {
                "type": "string",
                "pattern": pattern,
                "maxLength": values.WEB_ADDRESS_MAX,
                "description": description,
            }
        case ValueType.CURRENCY:
            return {"type": "string", "pattern": f"^{values.CURRENCY}$", "description": description}
    return {"type": ["string", "number"], **_NUMBER, "pattern": f"^[^{BAD_IN_BODY}]*$", "description": description}


def _or_nothing(schema: Schema) -> Schema:
    """The same, or null, or an empty text: that is what shop systems send for what is not there."""
    description = schema.pop("description")
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "pattern" in schema:
        words = schema["pattern"].removeprefix("^").removesuffix("$")
        return {**schema, "type": [*types, "null"], "pattern": f"^(?:{words})?$", "description": description}
    empty: Schema = {"type": ["string", "null"], "maxLength": 0}
    return {"type": sorted({*types, "string", "null"}), "anyOf": [schema, empty], "description": description}
