"""CloudSearch's searches, translated into the requests of an engine with OpenSearch's interface, and its answers back."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Container, Mapping
from typing import Any

from cloudsearch_rules import Refused

__all__ = ["HITS", "Search", "number", "required", "texts"]

# The service returns no hits beyond this many.
HITS = 10_000


class Search:
    """One search request: the engine's ``body`` for it, and the service's ``answer`` from the engine's.

    ``unreturned``: the fields whose option "return" is off.
    """

    def __init__(
        self, parameters: Mapping[str, str], fields: Mapping[str, str], unreturned: Container[str] = ()
    ) -> None:
        self.unreturned = unreturned
        if "expr" in parameters:
            raise Refused("expr is not in this stand-in")
        if "cursor" in parameters and "start" in parameters:
            raise Refused("a request has a cursor or a start, and not both")
        self.fields = fields
        self.cursor = parameters.get("cursor")
        self.start = number(parameters, "start", 0, 0, HITS)
        size = number(parameters, "size", 10, 0, HITS)
        if self.start + size > HITS:
            raise Refused(f"start and size reach beyond {HITS} hits")
        self.wanted = [name.strip() for name in parameters.get("return", "_all_fields").split(",")]
        self.facets = _object(parameters, "facet")
        self.stats = _object(parameters, "stats")
        highlight = _object(parameters, "highlight")
        for name in [*self.facets, *self.stats, *highlight, *(n for n in self.wanted if not n.startswith("_"))]:
            self._known(name)
        for name in highlight:
            if fields[name].removesuffix("-array") != "text":
                raise Refused(f"{name!r} is no text, so it can't be highlighted")
        query: dict[str, Any] = {"bool": {"must": [self._query(parameters)]}}
        if "fq" in parameters:
            query["bool"]["filter"] = [_Structured(parameters["fq"], fields).query()]
        self.body: dict[str, Any] = {"query": query, "from": self.start, "size": size, "track_total_hits": True}
        if "sort" in parameters:
            self.body["sort"] = [self._sort(key) for key in parameters["sort"].split(",")]
            # Else there are no scores where something else sorts.
            self.body["track_scores"] = True
        if self.cursor is not None:
            self._page()
        aggregations: dict[str, Any] = {}
        for name, options in self.facets.items():
            key: dict[str, str] = {"_key": "asc"}
            order = [key] if options.get("sort") == "bucket" else [{"_count": "desc"}, key]
            terms = {"field": name, "size": options.get("size", 10), "order": order}
            aggregations[f"facet {name}"] = {"terms": terms}
        for name in self.stats:
            aggregations[f"stats {name}"] = {"extended_stats": {"field": name}}
            aggregations[f"missing {name}"] = {"missing": {"field": name}}
        if aggregations:
            self.body["aggs"] = aggregations
        if highlight:
            marked = {name: _highlight(name, options) for name, options in highlight.items()}
            self.body["highlight"] = {"fields": marked, "number_of_fragments": 0}

    def _page(self) -> None:
        """The page of a cursor: what sorts is made so that no two documents are equal, and told in the cursor."""
        sort = self.body.setdefault("sort", [{"_score": "desc"}])
        if not any("_id" in key for key in sort):
            sort.append({"_id": "asc"})
        del self.body["from"]
        if self.cursor == "initial":
            return
        try:
            after = json.loads(base64.b64decode(self.cursor or "", validate=True))
        except (binascii.Error, ValueError):
            after = None
        if not isinstance(after, list) or len(after) != len(sort):
            raise Refused("the cursor is none of this domain's")
        self.body["search_after"] = after

    def _query(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        text, parser = required(parameters, "q"), parameters.get("q.parser", "simple")
        options = _object(parameters, "q.options")
        named = options.get("fields") or [
            name for name, kind in self.fields.items() if kind.removesuffix("-array") == "text"
        ]
        for name in named:
            self._known(name.partition("^")[0])
        if parser == "structured":
            return _Structured(text, self.fields, [name.partition("^")[0] for name in named]).query()
        if parser not in ("simple", "lucene"):
            raise Refused(f"the parser {parser!r} is not in this stand-in")
        if not named:
            return {"match_none": {}}
        operator = options.get("defaultOperator", "and")
        kind = "simple_query_string" if parser == "simple" else "query_string"
        return {kind: {"query": text, "fields": named, "default_operator": operator}}

    def _sort(self, key: str) -> dict[str, str]:
        name, _, direction = key.strip().partition(" ")
        if direction not in ("asc", "desc"):
            raise Refused(f"sort takes a field and asc or desc, not {key!r}")
        if name in ("_score", "_id"):
            return {name: direction}
        kind = self._known(name)
        return {f"{name}.whole" if kind == "text" else name: direction}

    def _known(self, name: str) -> str:
        if name not in self.fields:
            raise Refused(f"there is no field {name!r}")
        return self.fields[name]

    def answer(self, found: dict[str, Any]) -> dict[str, Any]:
        hits = [self._hit(hit) for hit in found["hits"]["hits"]]
        answer: dict[str, Any] = {
            "status": {"rid": "stand-in", "timems": found["took"]},
            "hits": {"found": found["hits"]["total"]["value"], "start": self.start, "hit": hits},
        }
        if self.cursor is not None:
            # After the last page the cursor stays where it is.
            last = found["hits"]["hits"][-1]["sort"] if hits else self.body.get("search_after")
            answer["hits"]["cursor"] = base64.b64encode(json.dumps(last).encode()).decode() if last else "initial"
        aggregations = found.get("aggregations", {})
        if self.facets:
            answer["facets"] = {
                name: {
                    "buckets": [
                        {"value": str(bucket.get("key_as_string", bucket["key"])), "count": bucket["doc_count"]}
                        for bucket in aggregations[f"facet {name}"]["buckets"]
                    ]
                }
                for name in self.facets
            }
        if self.stats:
            answer["stats"] = {
                name: self._stats(aggregations[f"stats {name}"], aggregations[f"missing {name}"]["doc_count"])
                for name in self.stats
            }
        return answer

    def _hit(self, hit: dict[str, Any]) -> dict[str, Any]:
        fields = {
            name: texts(value)
            for name, value in hit["_source"].items()
            if (name in self.wanted or "_all_fields" in self.wanted) and name not in self.unreturned
        }
        if "_score" in self.wanted:
            fields["_score"] = [str(hit["_score"])]
        answer = {"id": hit["_id"], "fields": fields}
        if "highlight" in hit:
            answer["highlights"] = {name: lit[0] for name, lit in hit["highlight"].items()}
        return answer

    @staticmethod
    def _stats(stats: dict[str, Any], missing: int) -> dict[str, Any]:
        return {
            "count": stats["count"],
            "missing": missing,
            "sum": stats["sum"],
            "sumOfSquares": stats["sum_of_squares"],
            "stddev": stats["std_deviation"],
            **{theirs: str(stats[ours]) for theirs, ours in (("min", "min"), ("max", "max"), ("mean", "avg"))},
        }


class _Bounds(str):
    """What stands in brackets; in quotes it would be a text."""

    __slots__ = ()


class _Structured:
    """A query of the structured parser: ``(and name:'denver' (range field=elevation [5000,}))``, ``matchall``."""

    _TOKEN = re.compile(
        r"""\s*(?:([()])|((?:(?:[a-z][a-z0-9_]*|_id)[=:])?(?:'(?:[^'\\]|\\.)*'|[\[{][^\]}]*[\]}]|[^\s()']+)))"""
    )
    _DEEPEST = 50

    def __init__(self, text: str, fields: Mapping[str, str], searched: Collection[str] | None = None) -> None:
        self.fields = fields
        self.searched = searched
        self.tokens: deque[str] = deque()
        end = 0
        while text[end:].strip():
            match = self._TOKEN.match(text, end)
            if match is None:
                raise Refused("the structured query can't be read")
            self.tokens.append(match[1] or match[2])
            end = match.end()

    def query(self) -> dict[str, Any]:
        query = self._expression(0)
        if self.tokens:
            raise Refused("the structured query goes on after its end")
        return query

    def _next(self) -> str:
        if not self.tokens:
            raise Refused("the structured query ends too early")
        return self.tokens.popleft()

    def _expression(self, depth: int) -> dict[str, Any]:
        if depth > self._DEEPEST:
            raise Refused("the structured query is nested too deeply")
        token = self._next()
        if token == "matchall":  # noqa: S105 (a token of a query)
            return {"match_all": {}}
        if token != "(":  # noqa: S105
            name, value = self._named(token)
            return self._each(name, lambda field: self._term(field, value))
        operator = self._next()
        options: dict[str, str] = {}
        while self.tokens and (option := re.fullmatch(r"(field|boost|distance)=(.*)", self.tokens[0], re.DOTALL)):
            options[option[1]] = self._unquoted(option[2])
            self.tokens.popleft()
        arguments: list[Any] = []
        while self.tokens and self.tokens[0] != ")":
            compound = operator in ("and", "or", "not")
            arguments.append(self._expression(depth + 1) if compound else self._unquoted(self._next()))
        self._next()
        return self._operation(operator, options, arguments)

    def _operation(self, operator: str, options: dict[str, str], arguments: list[Any]) -> dict[str, Any]:
        if not arguments or (operator not in ("and", "or") and len(arguments) != 1):
            raise Refused(f"wrong number of arguments of {operator!r}")
        value, name = arguments[0], options.get("field")
        match operator:
            case "and":
                return {"bool": {"must": arguments}}
            case "or":
                return {"bool": {"should": arguments, "minimum_should_match": 1}}
            case "not":
                return {"bool": {"must_not": arguments}}
            case "term" | "range":
                return self._each(name, lambda field: self._term(field, value))
            case "phrase":
                return self._each(name, lambda field: {"match_phrase": {field: value}})
            case "prefix":
                # The engine does not analyse a prefix; the service's text analysis lower-cases it.
                return self._each(
                    name, lambda field: {"prefix": {field: value.lower() if self._is_text(field) else value}}
                )
            case "near":
                slop = options.get("distance", "1")
                if not slop.isdecimal():
                    raise Refused("near takes a distance in words")
                return self._each(name, lambda field: {"match_phrase": {field: {"query": value, "slop": int(slop)}}})
        raise Refused(f"the operator {operator!r} is not in this stand-in")

    def _named(self, token: str) -> tuple[str | None, str]:
        match = re.fullmatch(r"([a-z][a-z0-9_]*|_id):(.*)", token, re.DOTALL)
        return (match[1], self._unquoted(match[2])) if match else (None, self._unquoted(token))

    @staticmethod
    def _unquoted(text: str) -> str:
        if text in ("(", ")"):
            raise Refused("the structured query has an expression where a value belongs")
        if text.startswith("'"):
            return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
        return _Bounds(text) if text.startswith(("[", "{")) else text

    def _is_text(self, name: str) -> bool:
        return name != "_id" and self.fields[name].removesuffix("-array") == "text"

    def _each(self, name: str | None, query: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """The query of the field named, or of any text field."""
        if name is not None:
            if name not in self.fields and name != "_id":
                raise Refused(f"there is no field {name!r}")
            return query(name)
        searched = [field for field in self.fields if self._is_text(field)] if self.searched is None else self.searched
        any_of = [query(field) for field in searched]
        return {"bool": {"should": any_of, "minimum_should_match": 1}} if any_of else {"match_none": {}}

    def _term(self, field: str, value: str) -> dict[str, Any]:
        if field == "_id":
            return {"ids": {"values": [value]}}
        if self.fields[field] == "latlon":
            return self._within(field, value)
        bounds = re.fullmatch(r"([\[{])([^,]*),([^,]*)([\]}])", value) if isinstance(value, _Bounds) else None
        if bounds:
            low, high = self._unquoted(bounds[2].strip()), self._unquoted(bounds[3].strip())
            limits = {"gte" if bounds[1] == "[" else "gt": low, "lte" if bounds[4] == "]" else "lt": high}
            return {"range": {field: {name: limit for name, limit in limits.items() if limit}}}
        if self._is_text(field):
            return {"match": {field: {"query": value, "operator": "and"}}}
        return {"term": {field: value}}

    @staticmethod
    def _within(field: str, value: str) -> dict[str, Any]:
        """A place in a box: ``['north,west','south,east']``."""
        degrees = r"(-?\d+(?:\.\d+)?)"
        corners = re.fullmatch(rf"\['{degrees},{degrees}',\s*'{degrees},{degrees}'\]", value)
        if corners is None:
            raise Refused(f"{field!r} is a place, which is searched by ['north,west','south,east']")
        north, west, south, east = map(float, corners.groups())
        if north < south or west > east or not (south >= -90 and north <= 90 and west >= -180 and east <= 180):
            raise Refused("the upper left corner of a box is not its upper left one")
        return {"geo_bounding_box": {field: {"top": north, "left": west, "bottom": south, "right": east}}}


def _highlight(name: str, options: Any) -> dict[str, Any]:
    """The engine's options for one field's; the text is encoded by none of them."""
    if not isinstance(options, dict) or options.keys() - {"format", "max_phrases", "pre_tag", "post_tag"}:
        raise Refused(f"the highlights of {name!r} have options that there are not")
    form = options.get("format", "html")
    if form not in ("html", "text"):
        raise Refused("the format of highlights is html or text")
    before, after = ("<em>", "</em>") if form == "html" else ("*", "*")
    return {"pre_tags": [options.get("pre_tag", before)], "post_tags": [options.get("post_tag", after)]}


def texts(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value])]


def required(parameters: Mapping[str, str], name: str) -> str:
    if not parameters.get(name):
        raise Refused(f"the parameter {name!r} is missing")
    return parameters[name]


def number(parameters: Mapping[str, str], name: str, default: int, lowest: int, highest: int) -> int:
    text = parameters.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not lowest <= int(text) <= highest:
        raise Refused(f"{name} is a number from {lowest} to {highest}")
    return int(text)


def _object(parameters: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(parameters.get(name) or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(f"{name} is a JSON object")
    return value
