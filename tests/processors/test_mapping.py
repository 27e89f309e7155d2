"""FieldMapping: which field of an event fills which column."""

from __future__ import annotations

from typing import Any

import pytest

from processors.mapping import FieldMapping, MissingField, field
from streamkit.errors import ConfigurationError, DecodeError, Reject

EVENT = {"id": 7, "address": {"city": "Denver", "geo": {"lat": 39.7}}, "note": None}


def test_each_name_has_the_value_at_its_path() -> None:
    mapping = FieldMapping({"number": "id", "city": "address.city", "lat": "address.geo.lat", "note": "note"})

    assert mapping.of(EVENT) == {"number": 7, "city": "Denver", "lat": 39.7, "note": None}


def test_a_star_takes_all_fields_and_given_names_win_over_it() -> None:
    assert FieldMapping({"city": "id", "*": "address"}).of(EVENT) == {"city": 7, "geo": {"lat": 39.7}}
    assert FieldMapping({"*": ""}).of(EVENT) == EVENT


def test_the_empty_path_is_the_event() -> None:
    assert FieldMapping({"whole": ""}).of(EVENT) == {"whole": EVENT}


@pytest.mark.parametrize("path", ["zip", "address.zip", "address.city.zip", "note.zip", "address.geo.lat.0"])
def test_a_field_that_is_missing_is_named_and_nothing_of_the_event_is(path: str) -> None:
    with pytest.raises(MissingField) as caught:
        FieldMapping({"zip": path}).of(EVENT)

    assert str(caught.value) == f"the event has no field {path!r}"
    assert not isinstance(caught.value, Reject | DecodeError)


def test_a_star_of_what_is_no_object_is_named() -> None:
    with pytest.raises(MissingField, match=r"the event's field 'address\.city' is not an object"):
        FieldMapping({"*": "address.city"}).of(EVENT)


def test_a_field_is_found_by_its_path() -> None:
    assert field(EVENT, "address.geo") == {"lat": 39.7}


def test_without_a_setting_the_event_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROW", raising=False)

    assert FieldMapping.from_env("ROW").of(EVENT) == EVENT


def test_a_setting_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROW", '{"city": "address.city"}')

    assert FieldMapping.from_env("ROW").of(EVENT) == {"city": "Denver"}


@pytest.mark.parametrize("text", ["city=address.city", '["city"]', '{"city": 1}', '{"city": {"path": "x"}}', "{"])
def test_a_setting_that_is_no_mapping_is_named(monkeypatch: pytest.MonkeyPatch, text: Any) -> None:
    monkeypatch.setenv("ROW", text)

    with pytest.raises(ConfigurationError, match="the environment variable ROW holds a mapping in JSON"):
        FieldMapping.from_env("ROW")
