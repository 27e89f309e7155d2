"""An API's description, OpenAPI 3.0, made of its fields: what it says is what ``query`` takes."""

from __future__ import annotations

from typing import Any

from .cursor import INITIAL
from .fields import Field, Fields
from .query import DEEPEST, RELEVANCE, Limits
from .values import MOST_DOUBLE

__all__ = ["described"]

_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "literal": {"type": "string"},
    "int": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "double": {"type": "number", "format": "double", "minimum": -MOST_DOUBLE, "maximum": MOST_DOUBLE},
    "date": {"type": "string", "format": "date-time"},
    "latlon": {
        "type": "object",
        "required": ["lat", "lon"],
        "properties": {
            "lat": {"type": "number", "minimum": -90, "maximum": 90},
            "lon": {"type": "number", "minimum": -180, "maximum": 180},
        },
        "additionalProperties": False,
    },
}
_LATITUDE = r"-?(90(\.0{1,9})?|[1-8]?[0-9](\.[0-9]{1,9})?)"
_LONGITUDE = r"-?(180(\.0{1,9})?|(1[0-7][0-9]|[1-9]?[0-9])(\.[0-9]{1,9})?)"
_BOX = f"^{_LATITUDE},{_LONGITUDE},{_LATITUDE},{_LONGITUDE}$"
_ERRORS = {
    "400": "A parameter is wrong: `parameter` says which, `error` what it takes",
    "414": "The query string is too long",
    "500": "An error of the function's own",
    "502": "The index is not as it was declared: its owner has to look",
    "503": "The index does not answer now; Retry-After says when to ask again",
}
_FORM_ERRORS = {"413": "The form is too long", "415": "The body is no form"}


def described(fields: Fields, limits: Limits, *, title: str, suggests: bool) -> dict[str, Any]:
    """The document, as JSON has it."""
    search = _search_parameters(fields, limits)
    form = {
        one["name"]: {**one["schema"], "description": one["description"]}
        for one in search
        if one["name"] != "If-None-Match"
    }
    body = {
        "required": False,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {"type": "object", "properties": form, "additionalProperties": False},
                "encoding": {
                    one["name"]: {"style": "form", "explode": one["explode"]} for one in search if "explode" in one
                },
            }
        },
    }
    paths: dict[str, Any] = {
        "/search": {
            "get": _operation("search", "Documents that match, a page of them", search, "Found"),
            "post": {
                **_operation("searchByForm", "The same, with the parameters in a form", [], "Found", _FORM_ERRORS),
                "requestBody": body,
            },
        },
        "/health": {
            "get": _operation("health", "Whether the function runs; nothing is asked", [], "Health", index=False)
        },
        "/openapi.json": {"get": _operation("describe", "This description", [], "Description", index=False)},
    }
    if suggests:
        text = {"type": "string", "maxLength": limits.text}
        parameters = [
            _parameter("q", text, "What the suggestions begin with", required=True),
            _parameter("size", _number(1, limits.hits, limits.default_hits), "Suggestions at most"),
        ]
        paths["/suggest"] = {"get": _operation("suggest", "What a text may become", parameters, "Suggested")}
    return {
        "openapi": "3.0.3",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"schemas": _schemas(fields, limits)},
    }


def _search_parameters(fields: Fields, limits: Limits) -> list[dict[str, Any]]:
    made = []
    if fields.of("search"):
        made.append(
            _parameter(
                "q",
                {"type": "string", "maxLength": limits.text},
                'All of these words: "phrases", beginnings* and -exclusions among them',
            )
        )
    for name, field in fields.items():
        value = _value(field, limits)
        if field.has_value:
            several = {"type": "array", "items": value, "maxItems": 50}
            made.append(_parameter(f"filter.{name}", several, f"{name} is one of these", explode=True))
        if field.has_range:
            made.append(_parameter(f"min.{name}", value, f"{name} is this or more"))
            made.append(_parameter(f"max.{name}", value, f"{name} is this or less"))
        if field.has_box:
            box = {"type": "string", "pattern": _BOX, "example": "41,-106,39,-104"}
            made.append(_parameter(f"box.{name}", box, "Within north,west,south,east, in degrees"))
    if facets := fields.of("facet"):
        made.append(_parameter("facet", _names(facets), "Count the documents by their values", explode=False))
        made.append(
            _parameter(
                "facet_size", _number(1, limits.buckets, min(10, limits.buckets)), "Values of each facet at most"
            )
        )
    sorts = [RELEVANCE, *(one for name in fields.of("sort") for one in (name, f"-{name}"))]
    made.append(
        _parameter("sort", _names(sorts, most=9), "In the order of these; - is the other way round", explode=False)
    )
    made.append(_parameter("start", _number(0, DEEPEST - limits.hits, 0), "Leave out so many"))
    made.append(_parameter("size", _number(0, limits.hits, limits.default_hits), "Hits at most"))
    cursor = {"type": "string", "minLength": 1, "maxLength": 4096}
    made.append(
        _parameter(
            "cursor", cursor, f"`{INITIAL}`, then the cursor of the page before: for pages beyond {DEEPEST:,} hits"
        )
    )
    if texts := fields.of("highlight"):
        made.append(
            _parameter("highlight", _names(texts), "Show these as HTML, with <em> around what was found", explode=False)
        )
    if returned := fields.of("returned"):
        made.append(_parameter("fields", _names(returned), "Of each document these fields alone", explode=False))
    return made


def _schemas(fields: Fields, limits: Limits) -> dict[str, Any]:
    returned = {name: _shown(fields[name]) for name in fields.of("returned")}
    texts = {name: {"type": "string"} for name in fields.of("highlight")}
    facets = {name: {"type": "array", "items": _bucket(fields[name])} for name in fields.of("facet")}
    count = {"type": "integer", "minimum": 0}
    hit = _object({"id": {"type": "string"}, "fields": _object(returned, []), "highlights": _object(texts, [])})
    found = _object(
        {
            "found": {**count, "description": "How many documents match"},
            "hits": {"type": "array", "items": hit, "maxItems": limits.hits},
            "facets": _object(facets, []),
            "cursor": {"type": "string", "nullable": True, "description": "Of the next page, where one may follow"},
        }
    )
    suggestion = _object({"text": {"type": "string"}, "id": {"type": "string"}})
    return {
        "Found": found,
        "Suggested": _object({"suggestions": {"type": "array", "items": suggestion, "maxItems": limits.hits}}),
        "Health": _object({"status": {"type": "string", "enum": ["ok"]}}),
        "Description": {"type": "object", "required": ["openapi", "paths"]},
        "Error": _object({"error": {"type": "string"}, "parameter": {"type": "string"}}, ["error"]),
    }


def _operation(
    name: str,
    summary: str,
    parameters: list[dict[str, Any]],
    answer: str,
    more: dict[str, str] | None = None,
    *,
    index: bool = True,
) -> dict[str, Any]:
    errors = {**_ERRORS, **(more or {})}
    if not index:
        errors = {status: text for status, text in errors.items() if status in ("400", "414", "500")}
    ok = {
        "description": summary,
        "headers": {"ETag": {"schema": {"type": "string"}}, "Cache-Control": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}},
    }
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": ok,
            "304": {"description": "It is as it was when the ETag in If-None-Match was given"},
            **{status: {"description": text, "content": failed} for status, text in sorted(errors.items())},
        },
    }


def _parameter(
    name: str, schema: dict[str, Any], description: str, *, required: bool = False, explode: bool | None = None
) -> dict[str, Any]:
    made = {"name": name, "in": "query", "required": required, "description": description, "schema": schema}
    return made if explode is None else {**made, "style": "form", "explode": explode}


def _value(field: Field, limits: Limits) -> dict[str, Any]:
    schema = _TYPES[field.kind]
    return {**schema, "maxLength": limits.text} if field.kind in ("text", "literal") else schema


def _shown(field: Field) -> dict[str, Any]:
    schema = _TYPES[field.kind]
    return {"type": "array", "items": schema} if field.is_array else schema


def _bucket(field: Field) -> dict[str, Any]:
    return _object({"value": _TYPES[field.kind], "count": {"type": "integer", "minimum": 1}})


def _number(lowest: int, highest: int, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}


def _names(names: list[str], most: int | None = None) -> dict[str, Any]:
    schema = {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1}
    return schema if most is None else {**schema, "maxItems": most}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    required = list(properties) if required is None else required
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made
