"""A deterministic instance of a JSON schema, as constrained decoding would produce one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MAX_DEPTH = 16
_FORMATS = {
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "fox@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "hostname": "example.com",
}


class SchemaError(ValueError):
    """The schema asks for what this generator cannot produce; the message says which keyword."""


def instance_of(schema: Any, words: Iterator[str]) -> Any:
    """An instance of `schema`; `words` supplies free strings.

    Knows type, properties, required, items, prefixItems, minItems, enum, const, default-less unions (anyOf,
    oneOf: the first branch; allOf: merged), $ref into the document, numeric and length bounds and common
    formats. Optional properties are filled in too. `pattern` is not attempted.

    Raises SchemaError for patterns, unresolvable references and contradictory bounds.
    """
    return _instance(schema, schema, words, 0)


def _instance(schema: Any, root: Any, words: Iterator[str], depth: int) -> Any:
    if schema is True or schema == {}:
        return next(words)
    if not isinstance(schema, dict):
        raise SchemaError(f"a schema is an object or true, not {schema!r}")
    if "$ref" in schema:
        if depth >= _MAX_DEPTH:
            raise SchemaError(f"references nest deeper than {_MAX_DEPTH}: {schema['$ref']}")
        return _instance(_resolve(root, schema["$ref"]), root, words, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return _instance(schema[union][0], root, words, depth + 1)
    if schema.get("allOf"):
        return _instance(_merged(schema, root), root, words, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    match kind:
        case "object":
            return _object(schema, root, words, depth)
        case "array":
            return _array(schema, root, words, depth)
        case "string":
            return _string(schema, words)
        case "integer":
            return int(_number(schema, step=1))
        case "number":
            return _number(schema, step=0.5)
        case "boolean":
            return True
        case "null":
            return None
    raise SchemaError(f"unknown type {kind!r}")


def _resolve(root: Any, reference: str) -> Any:
    if not reference.startswith("#"):
        raise SchemaError(f"only references into the document are followed, not {reference!r}")
    target = root
    for part in filter(None, reference[1:].split("/")):
        try:
            target = target[part.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError) as error:
            raise SchemaError(f"reference {reference!r} leads nowhere") from error
    return target


def _merged(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for branch in schema["allOf"]:
        branch = _resolve(root, branch["$ref"]) if "$ref" in branch else branch
        for key, value in branch.items():
            if key in ("properties", "$defs") and key in merged:
                merged[key] = merged[key] | value
            elif key == "required" and key in merged:
                merged[key] = [*merged[key], *value]
            else:
                merged[key] = value
    return merged


def _object(schema: dict[str, Any], root: Any, words: Iterator[str], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    # Past half the depth only what must be there, so that recursive schemas end.
    names = list(properties) if depth < _MAX_DEPTH // 2 else [name for name in properties if name in required]
    made = {name: _instance(properties[name], root, words, depth + 1) for name in names}
    for name in required:
        if name not in made:
            made[name] = next(words)
    return made


def _array(schema: dict[str, Any], root: Any, words: Iterator[str], depth: int) -> list[Any]:
    members = [_instance(item, root, words, depth + 1) for item in schema.get("prefixItems", ())]
    items = schema.get("items", True)
    wanted = schema.get("minItems", 0 if depth >= _MAX_DEPTH // 2 else 1)
    while items is not False and len(members) < min(wanted, schema.get("maxItems", wanted)):
        members.append(_instance(items, root, words, depth + 1))
    return members


def _string(schema: dict[str, Any], words: Iterator[str]) -> str:
    if "pattern" in schema:
        raise SchemaError("pattern is not supported")
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    if longest is not None and longest < shortest:
        raise SchemaError(f"minLength {shortest} exceeds maxLength {longest}")
    text = next(words)
    while len(text) < shortest:
        text += " " + next(words)
    return text[:longest]


def _number(schema: dict[str, Any], step: float) -> float:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = above + step if low is None else max(low, above + step)
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = below - step if high is None else min(high, below - step)
    if low is not None and high is not None and low > high:
        raise SchemaError(f"no number between {low} and {high}")
    value = low if low is not None else min(high, step) if high is not None else step
    if multiple := schema.get("multipleOf"):
        value = -(-value // multiple) * multiple
    return float(value)
