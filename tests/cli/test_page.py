"""What docs/cli.md says of the commands is so of all that there are."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from streamkit.cli import _parser

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands() -> dict[str, argparse.ArgumentParser]:
    (parsers,) = (one for one in _parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(parsers.choices)


def test_each_command_is_in_the_table_and_has_a_section() -> None:
    assert set(re.findall(r"^\| `streamkit ([a-z-]+)`", PAGE, re.MULTILINE)) == set(commands())
    assert set(commands()) <= set(re.findall(r"^## ([a-z-]+)", PAGE, re.MULTILINE))


def test_the_commands_that_take_no_connection_are_named() -> None:
    (sentence,) = re.findall(r"All (.*?)take `--endpoint-url`, `--region` and `--profile`", PAGE, re.DOTALL)
    without = {
        name
        for name, one in commands().items()
        if not {"--endpoint-url", "--region"} <= set(one._option_string_actions)
    }

    assert set(re.findall(r"`([a-z-]+)`", sentence)) == without


def test_each_option_of_package_is_told() -> None:
    section = PAGE[PAGE.index("## package\n") :].partition("\n## ")[0]

    assert {one for one in commands()["package"]._option_string_actions if one.startswith("--")} - {"--help"} == set(
        re.findall(r"`(--[a-z-]+)", section)
    )
