from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.janitor.choice import Choice
from streamkit.janitor.plan import LayerVersion, Uses, Version, is_number, judge, judge_layer

numbers = st.integers(1, 400)
versions = st.lists(numbers, unique=True, max_size=60).map(
    lambda found: [Version("$LATEST", 9), *(Version(str(one), one) for one in found)]
)
sets = st.sets(numbers.map(str), max_size=10)


class TestTheVersionsOfAFunction:
    def test_that_nobody_uses_go_but_for_the_newest(self) -> None:
        all_of_it = [Version("$LATEST"), *(Version(str(n)) for n in (1, 2, 10, 9))]

        verdicts = judge(all_of_it, Uses(), keep=2)

        assert [(one.version.number, one.kept) for one in verdicts] == [
            *(("$LATEST", "latest"), ("1", None), ("2", None), ("9", "newest"), ("10", "newest")),
        ]

    @given(versions, sets, sets, sets, st.integers(1, 10))
    def test_are_kept_where_anybody_uses_them_and_each_has_one_verdict(
        self, found: list[Version], aliased: set[str], mapped: set[str], provisioned: set[str], keep: int
    ) -> None:
        verdicts = judge(found, Uses(aliased, mapped, provisioned), keep)

        gone = {one.version.number for one in verdicts if one.kept is None}
        newest = sorted((int(one.number) for one in found if one.number != "$LATEST"), reverse=True)[:keep]
        assert sorted(one.version.number for one in verdicts) == sorted(one.number for one in found)
        assert not gone & (aliased | mapped | provisioned | {"$LATEST"} | {str(one) for one in newest})
        kept = {one.version.number for one in verdicts if one.kept is not None}
        assert kept <= aliased | mapped | provisioned | {"$LATEST"} | {str(one) for one in newest}

    def test_of_another_form_than_a_number_are_kept(self) -> None:
        odd = ["$LATEST.PUBLISHED", "", "0", "-1", "1.0", "١", "1\n", "live"]

        verdicts = judge([*map(Version, odd), Version("2"), Version("3")], Uses(), keep=1)

        assert [one.version.number for one in verdicts if one.kept is None] == ["2"]
        assert not any(map(is_number, odd))


class TestTheVersionsOfALayer:
    def test_that_no_function_uses_go_but_for_the_newest(self) -> None:
        layer = [LayerVersion(n, f"arn:{n}") for n in (3, 1, 2, 10)]

        verdicts = judge_layer(layer, {"arn:1"}, keep=2)

        assert [(one.number, kept) for one, kept in verdicts.items()] == [
            *((1, "layer in use"), (2, None), (3, "newest"), (10, "newest")),
        ]


class TestAChoice:
    @pytest.mark.parametrize(
        ("choice", "chosen"),
        [
            (Choice(), ["shop-orders", "shop-stock", "Shop", "search"]),
            (Choice(include=[["shop-*", "s*h"]]), ["shop-orders", "shop-stock", "search"]),
            (Choice(include=[["shop-*"], ["*stock"]]), ["shop-stock"]),
            (Choice(exclude=["*o*"]), ["search"]),
            (Choice(include=[["shop-*"]], exclude=["*-stock"]), ["shop-orders"]),
        ],
    )
    def test_is_by_patterns_of_names(self, choice: Choice, chosen: list[str]) -> None:
        assert [one for one in ("shop-orders", "shop-stock", "Shop", "search") if choice.has_name(one)] == chosen

    def test_is_by_tags_all_of_those_wanted_and_none_of_those_excluded(self) -> None:
        choice = Choice(
            include_tags=[("team", "search"), ("old", None)], exclude_tags=[("keep", None), ("stage", "prod")]
        )

        assert choice.has_tags({"team": "search", "old": "", "stage": "dev"})
        assert not choice.has_tags({"team": "search"})
        assert not choice.has_tags({"team": "shop", "old": "x"})
        assert not choice.has_tags({"team": "search", "old": "x", "keep": "no"})
        assert not choice.has_tags({"team": "search", "old": "x", "stage": "prod"})

    def test_by_tags_chooses_no_layers_which_have_none(self) -> None:
        assert not Choice(include_tags=[("team", None)]).has_layer("numpy")
        assert Choice(exclude_tags=[("team", None)]).has_layer("numpy")
        assert not Choice(exclude=["num*"]).has_layer("numpy")
