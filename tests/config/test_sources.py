"""The environment and files as sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamkit.config import Config, Environment, File, Folder
from streamkit.errors import ConfigurationError, ConfigurationMissing

from .sources import Clock, settle


class TestEnvironment:
    def test_a_name_is_a_variable_in_capitals_behind_the_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERS_DB_PASS_WORD", "x")
        monkeypatch.setenv("ORDERS_EMPTY", "")
        config = Config(Environment("ORDERS_"))

        assert config.text("db/pass-word").value == "x"
        assert config.text("empty", default="none").value == "none"

    def test_a_hierarchy_is_all_variables_that_begin_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERS_ROUTES_A", "1")
        monkeypatch.setenv("ORDERS_ROUTES_B_C", "2")
        monkeypatch.setenv("ORDERS_ROUTESX", "3")

        assert Config(Environment("ORDERS_")).hierarchy("routes", type=int).value == {"a": 1, "b_c": 2}

    def test_a_secret_may_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ORDERS_PASSWORD", "hunter2")

        assert Config(Environment("ORDERS_")).secret("password").value.reveal() == "hunter2"

    def test_one_that_is_not_there_is_told_by_its_variable(self) -> None:
        with pytest.raises(
            ConfigurationMissing, match=r"the environment \(NOBODYS_DB_PASSWORD\) has none of this name"
        ):
            _ = Config(Environment("NOBODYS_")).secret("db/password").value


class TestFile:
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            (
                "defaults.json",
                '{"limit": 10, "on": true, "db": {"host": "there", "port": 5432}, "hosts": ["a", "b"], "none": null}',
            ),
            ("defaults.toml", 'limit = 10\non = true\nhosts = ["a", "b"]\n[db]\nhost = "there"\nport = 5432\n'),
        ],
    )
    def test_members_of_members_are_parameters(self, tmp_path: Path, name: str, content: str) -> None:
        (tmp_path / name).write_text(content)
        config = Config(File(tmp_path / name))

        assert config.integer("limit").value == 10
        assert config.boolean("on").value is True
        assert config.texts("hosts").value == ("a", "b")
        assert config.value("db", type=dict[str, Any]).value == {"host": "there", "port": 5432}
        assert config.hierarchy("db").value == {"host": "there", "port": "5432"}
        assert config.text("none", default="-").value == "-"

    def test_it_is_read_anew_and_one_that_is_broken_changes_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file, clock = tmp_path / "defaults.json", Clock()
        file.write_text('{"limit": 10}')
        limit = Config(File(file), clock=clock, wait=30).integer("limit")
        assert limit.value == 10
        for content in ('{"limit": 2', "[20]", "\udcff"):
            file.write_bytes(content.encode("utf-8", "surrogateescape"))
            clock.advance(60)
            assert limit.value == 10
            settle()
        assert "defaults.json is no object in JSON" in caplog.text

        file.write_text('{"limit": 20}')
        clock.advance(60)
        assert limit.value == 20

    def test_a_member_that_is_broken_again_after_it_was_mended_is_told_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file, clock = tmp_path / "defaults.json", Clock()
        file.write_text('{"limit": 10}')
        limit = Config(File(file), clock=clock, wait=30).integer("limit")
        for content in ('{"limit": 10}', '{"limit": "x"}', '{"limit": "x"}', '{"limit": 10}', '{"limit": "x"}'):
            file.write_text(content)
            clock.advance(60)
            assert limit.value == 10

        assert caplog.text.count("the parameter limit can't be used, so its last good value stays") == 2

    def test_one_that_is_not_there_has_nothing_unless_it_is_required(self, tmp_path: Path) -> None:
        assert Config(File(tmp_path / "none.json")).integer("limit", default=3).value == 3
        with pytest.raises(ConfigurationMissing, match=r"the file none\.json could not be asked: FileNotFoundError"):
            _ = Config(File(tmp_path / "none.json", required=True)).integer("limit").value

    def test_a_name_that_was_typed_wrong_is_told_until_the_file_is_there(self, tmp_path: Path) -> None:
        file, clock = tmp_path / "none.json", Clock()
        limit = Config(File(file), clock=clock).integer("limit")

        with pytest.raises(
            ConfigurationMissing, match=r"none\.json \(there is no /.*none\.json\) has none of this name"
        ):
            _ = limit.value
        file.write_text("{}")
        clock.advance(60)
        with pytest.raises(ConfigurationMissing, match=r"the file none\.json has none of this name"):
            _ = limit.value

    def test_another_format_is_told(self) -> None:
        with pytest.raises(ConfigurationError, match=r"File reads \.json and \.toml; got defaults\.yaml"):
            File("defaults.yaml")

    def test_one_that_is_far_too_large_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "large.json").write_bytes(b" " * (4 * 1_048_576 + 1))
        with pytest.raises(ConfigurationMissing, match=r"large\.json has over 4,194,304 bytes"):
            _ = Config(File(tmp_path / "large.json")).integer("limit").value


class TestFolder:
    def test_each_file_is_a_parameter_and_its_last_line_end_is_not_of_it(self, tmp_path: Path) -> None:
        mount = tmp_path / "secrets"
        (mount / "db").mkdir(parents=True)
        (mount / "db" / "password").write_text("hunter2\n")
        (mount / "db" / "user").write_text("me")
        # As Kubernetes mounts them.
        (mount / "..data").mkdir()
        (mount / "..data" / "password").write_text("again")
        config = Config(Folder(mount, secrets=True))

        assert config.secret("db/password").value.reveal() == "hunter2"
        both = {name: one.reveal() for name, one in config.hierarchy("db", secrets=True).value.items()}
        assert both == {"password": "hunter2", "user": "me"}
        with pytest.raises(ConfigurationMissing, match="it is a secret"):
            _ = config.text("db/password").value

    def test_one_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigurationMissing, match=r"the folder none \(there is no /.*none\) has none of this name"
        ):
            _ = Config(Folder(tmp_path / "none")).text("key").value
        with pytest.raises(ConfigurationMissing, match=r"has none of this name") as raised:
            _ = Config(Folder(tmp_path)).text("key").value
        assert "there is no /" not in str(raised.value)

    def test_one_that_is_no_text_is_told_without_it(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_bytes(b"hunter2\xff")
        with pytest.raises(ConfigurationMissing, match="key is not UTF-8") as raised:
            _ = Config(Folder(tmp_path)).text("key").value
        assert "hunter2" not in str(raised.value)
