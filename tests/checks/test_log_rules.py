"""Levels under which Lambda drops what somebody waits for."""

from __future__ import annotations

import pytest

from streamkit.finding import Finding

from .given import Check, changed, line_of, one

HANDLER = "      Handler: orders.handler\n"


def logging(settings: str, metrics: str = "", form: str = "JSON") -> str:
    lines = f"{HANDLER}      LoggingConfig:\n        LogFormat: {form}\n        {settings}\n"
    text = changed(HANDLER, lines)
    return changed('TARGET: ""', f"STREAMKIT_METRICS: {metrics}", text) if metrics else text


def of_levels(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "LogLevel" in finding.message]


@pytest.mark.parametrize(
    ("level", "metrics", "severity", "dropped", "kept"),
    [
        ("WARN", "", "error", ["the lines of metrics"], ["streamkit's warnings", "lines of records that failed, and"]),
        ("WARN", "emf", "error", ["the lines of metrics"], ["streamkit's warnings"]),
        ("WARN", "monitoring", "error", ["the lines of metrics"], ["streamkit's warnings"]),
        ("ERROR", "", "error", ["the lines of metrics", "streamkit's warnings"], ["lines of records that failed, and"]),
        ("ERROR", "otlp", "warning", ["streamkit's warnings"], ["the lines of metrics"]),
        ("ERROR", "'off'", "warning", ["streamkit's warnings"], ["the lines of metrics"]),
        (
            "FATAL",
            "",
            "error",
            ["lines of records that failed, and", "streamkit's warnings", "the lines of metrics"],
            [],
        ),
        (
            "FATAL",
            "otlp",
            "error",
            ["lines of records that failed, and", "streamkit's warnings"],
            ["the lines of metrics"],
        ),
    ],
)
def test_a_level_above_what_streamkit_writes(
    check: Check, level: str, metrics: str, severity: str, dropped: list[str], kept: list[str]
) -> None:
    text = logging(f"ApplicationLogLevel: {level}", metrics)

    finding = one(check(text), f"ApplicationLogLevel is {level}: Lambda drops")

    assert (finding.severity, finding.where) == (severity, line_of("ApplicationLogLevel", text))
    assert "Write ApplicationLogLevel: INFO" in finding.message
    assert all(part in finding.message for part in dropped)
    assert not any(part in finding.message for part in kept)
    assert ("are kept" in finding.message) is (level != "FATAL")


@pytest.mark.parametrize(
    "text",
    [
        *(logging(f"ApplicationLogLevel: {level}") for level in ("TRACE", "DEBUG", "INFO")),
        logging("ApplicationLogLevel: WARN", "otlp"),
        logging("LogGroup: mine"),
        # Lambda filters nothing of what is plain text.
        logging("ApplicationLogLevel: FATAL", form="Text"),
        logging("SystemLogLevel: INFO"),
        logging("SystemLogLevel: DEBUG"),
    ],
)
def test_a_level_that_drops_nothing(check: Check, text: str) -> None:
    assert of_levels(check(text)) == []


def test_levels_that_are_of_all_functions(check: Check) -> None:
    text = changed(
        "    Timeout: 60\n",
        "    Timeout: 60\n    LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: FATAL}\n",
    )
    assert one(check(text), "ApplicationLogLevel is FATAL").where == line_of("LoggingConfig", text)


def test_the_levels_of_lambda_itself_hide_what_ended_well(check: Check) -> None:
    text = logging("SystemLogLevel: WARN")
    finding = one(check(text), "SystemLogLevel is WARN")
    assert (finding.severity, finding.where) == ("note", line_of("SystemLogLevel", text))


def test_a_level_that_aws_does_not_take(check: Check) -> None:
    assert (
        one(check(logging("ApplicationLogLevel: WARNING")), "ApplicationLogLevel is 'WARNING', which AWS").severity
        == "error"
    )
    assert one(check(logging("SystemLogLevel: ERROR")), "SystemLogLevel is 'ERROR', which AWS").severity == "error"


def test_what_nobody_knows_is_a_note(check: Check) -> None:
    for text in (
        logging("ApplicationLogLevel: !Ref Nobody"),
        logging("SystemLogLevel: !Ref Nobody"),
        logging("ApplicationLogLevel: FATAL", form="!Ref Nobody"),
        logging("ApplicationLogLevel: WARN", "!Ref Nobody"),
    ):
        assert {finding.severity for finding in check(text)} == {"note"}
