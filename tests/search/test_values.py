"""Values of an index, in each form that OpenSearch takes of a document, as answers have them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.search.values import shown, value_of


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("1995-02-28T12:00:00Z", "1995-02-28T12:00:00Z"),
        ("1995-02-28t12:00:00.25+02:00", "1995-02-28T10:00:00.250Z"),
        ("1995", "1995-01-01T00:00:00Z"),
        (1995, "1995-01-01T00:00:00Z"),
        ("1995-02", "1995-02-01T00:00:00Z"),
        ("1995-02-28", "1995-02-28T00:00:00Z"),
        ("1995-02-28T", "1995-02-28T00:00:00Z"),
        ("1995-02-28T12", "1995-02-28T12:00:00Z"),
        ("1995-02-28T12:30", "1995-02-28T12:30:00Z"),
        ("1995-02-28T12:30:15", "1995-02-28T12:30:15Z"),
        ("1995-02-28T12:30:15.123456789", "1995-02-28T12:30:15.123Z"),
        ("1995-02-28T12:30-0530", "1995-02-28T18:00:00Z"),
        ("1995-02-28T12+01", "1995-02-28T11:00:00Z"),
        (793972800000, "1995-02-28T12:00:00Z"),
        ("793972800250", "1995-02-28T12:00:00.250Z"),
        (793972800000.7, "1995-02-28T12:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        ("95", "1970-01-01T00:00:00.095Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_a_date_of_any_form_that_the_index_takes_is_shown_in_utc(raw: Any, wanted: str) -> None:
    assert shown("date", raw) == wanted


@pytest.mark.parametrize(
    "raw",
    [
        *("", "today", "1995-13", "1995-02-30", "28.2.1995", "1995-02-28T25", "1995-02-28 12", "1e3", "\u0661995"),
        *(True, {}, [], 10**17, float("nan"), float("inf"), -(10**15), "1995-02-28T12:00:00+99:99"),
    ],
)
def test_what_is_no_date_is_none(raw: Any) -> None:
    with pytest.raises(ValueError, match="it is no date"):
        shown("date", raw)


def test_a_request_says_its_zone() -> None:
    for text in ("1995-02-28", "1995-02-28T12:00:00", "793972800000"):
        with pytest.raises(ValueError, match="zone"):
            value_of("date", text)


@pytest.mark.parametrize(
    "raw",
    [
        *("39.86,-104.67", "39.86, -104.67", "39.86,-104.67,1655"),
        *({"lat": 39.86, "lon": -104.67}, {"lat": "39.86", "lon": "-104.67"}),
        *([-104.67, 39.86], [-104.67, 39.86, 1655]),
        *("POINT (-104.67 39.86)", "point(-104.67 39.86 1655)", " POINT ( -104.67  39.86 ) "),
        *({"type": "Point", "coordinates": [-104.67, 39.86]}, {"type": "point", "coordinates": [-104.67, 39.86, 1]}),
    ],
)
def test_a_place_of_any_form_that_the_index_takes_is_shown(raw: Any) -> None:
    assert shown("latlon", raw) == {"lat": 39.86, "lon": -104.67}


@pytest.mark.parametrize(
    ("geohash", "lat", "lon"),
    # Of ezs42, the hash that descriptions of the form begin with, the cell is 42.583 to 42.627 and -5.625 to -5.581.
    [
        ("ezs42", 42.583, -5.625),
        ("EZS42", 42.583, -5.625),
        ("s", 0, 0),
        ("0", -90, -180),
        ("u4pruydqqvj", 57.649, 10.407),
    ],
)
def test_a_geohash_is_the_south_west_of_its_cell(geohash: str, lat: float, lon: float) -> None:
    found = shown("latlon", geohash)

    assert (found["lat"], found["lon"]) == (pytest.approx(lat, abs=1e-3), pytest.approx(lon, abs=1e-3))


@pytest.mark.parametrize(
    "raw",
    [
        *(
            "",
            "nowhere!",
            "ailo",
            "91,0",
            "0,181",
            "1,2,3,4",
            "POINT (1)",
            "POINT (a b)",
            "LINESTRING (1 2, 3 4)",
            f"1,2{' ' * 1000}",
        ),
        *([1], [1, 2, 3, 4], {}, {"lat": 1}, {"coordinates": 5}, {"coordinates": [[1, 2], [3, 4]]}, 5, True),
        *({"lat": float("nan"), "lon": 0},),
    ],
)
def test_what_is_no_place_is_none(raw: Any) -> None:
    with pytest.raises(ValueError, match="it is no latlon"):
        shown("latlon", raw)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=25)
    | st.from_regex(r"[0-9TZ:+. -]{0,25}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["lat", "lon", "coordinates"]), inner),
    max_leaves=5,
)


@given(st.sampled_from(["int", "double", "date", "latlon", "text", "literal"]), JSON)
def test_any_value_is_shown_or_is_none_of_its_type(kind: str, raw: Any) -> None:
    try:
        found = shown(kind, raw)
    except ValueError:
        return
    if kind == "date":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", found)
        assert value_of("date", found) == found
    if kind == "int":
        assert -(2**63) <= found < 2**63
