from __future__ import annotations

from typing import Any

import pytest

from streamkit.errors import ConfigurationError
from streamkit.janitor.options import options_of

VARIABLES = (
    *("JANITOR_DELETE", "KEEP_VERSIONS", "KEEP_LAYER_VERSIONS", "LAYERS", "INCLUDE", "EXCLUDE"),
    *("INCLUDE_TAGS", "EXCLUDE_TAGS", "CALLS_PER_SECOND"),
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "event", [None, {}, {"dry_run": True}, {"detail-type": "Scheduled Event", "source": "aws.events"}]
)
@pytest.mark.parametrize("allowed", ["", "yes", "no"])
def test_a_run_is_a_dry_one_by_default_whatever_is_allowed(
    event: Any, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JANITOR_DELETE", allowed)

    assert options_of(event).dry_run


def test_it_deletes_where_the_event_and_the_deployment_both_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set the environment variable JANITOR_DELETE to yes"):
        options_of({"dry_run": False})
    monkeypatch.setenv("JANITOR_DELETE", "yes")

    assert not options_of({"dry_run": False}).dry_run


@pytest.mark.parametrize(
    "event",
    [
        *(
            {"dry_run": "false"},
            {"dry_run": 0},
            {"dry_run": None},
            {"dryrun": False},
            {"keep_versions": 0},
            {"keep_versions": "3"},
        ),
        *({"include": "a*"}, {"include_tags": {"a": 1}}, [1], "text", {"warmer": True}, {"Records": []}),
    ],
)
def test_an_event_of_anything_else_is_an_error(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANITOR_DELETE", "yes")

    with pytest.raises(ConfigurationError, match="the event is not one of the janitor's"):
        options_of(event)


def test_an_event_can_only_narrow_what_the_deployment_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEP_VERSIONS", "5")
    monkeypatch.setenv("INCLUDE", "shop-*, search-*")
    monkeypatch.setenv("EXCLUDE", "*-prod")
    monkeypatch.setenv("INCLUDE_TAGS", '{"team": "shop"}')
    monkeypatch.setenv("EXCLUDE_TAGS", '{"keep": null}')
    monkeypatch.setenv("LAYERS", "no")

    asked = options_of(
        {
            "keep_versions": 2,
            "keep_layer_versions": 9,
            "layers": True,
            "include": ["*"],
            "exclude": [],
            "exclude_tags": {"keep": "x"},
        }
    )

    assert (asked.keep_versions, asked.keep_layer_versions, asked.layers) == (5, 9, False)
    assert asked.choice.has_name("shop-a")
    assert not asked.choice.has_name("other")
    assert not asked.choice.has_name("shop-prod")
    assert not asked.choice.has_tags({"team": "search"})
    assert not asked.choice.has_tags({"team": "shop", "keep": "y"})
    assert not options_of({"include": ["shop-b"]}).choice.has_name("shop-a")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("JANITOR_DELETE", "true"),
            ("JANITOR_DELETE", "1"),
            ("LAYERS", "maybe"),
            ("KEEP_VERSIONS", "0"),
            ("KEEP_VERSIONS", "x"),
        ),
        *(
            ("KEEP_LAYER_VERSIONS", "-1"),
            ("CALLS_PER_SECOND", "0"),
            ("CALLS_PER_SECOND", "nan"),
            ("CALLS_PER_SECOND", "16"),
        ),
        *(("INCLUDE", " , "), ("INCLUDE", ","), ("EXCLUDE", " ")),
        *(("INCLUDE_TAGS", "team=shop"), ("EXCLUDE_TAGS", '["a"]'), ("EXCLUDE_TAGS", "[" * 100_000)),
    ],
)
def test_a_variable_that_is_wrong_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=variable):
        options_of({})
