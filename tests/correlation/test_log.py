"""Every log line has what is followed: by logging, by powertools' Logger and by structlog, the real ones."""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aws_lambda_powertools import Logger

from streamkit import Record, RecordProcessor, correlation, lambda_handler
from streamkit.correlation.log import CorrelationFilter
from streamkit.testing import kinesis_event

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BOTH = {"x-correlation-id": "r-1", "x-correlation-user-id": "u-7", "traceparent": TRACE, "call-chain-length": 1}


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(uuid.uuid4().hex)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger
    for handler in logger.handlers:
        # pytest puts its own on a logger that propagates nothing: with the filter it would keep no line below INFO from any test.
        for one in [one for one in handler.filters if isinstance(one, CorrelationFilter)]:
            handler.removeFilter(one)
    logger.handlers.clear()


def lines_to(logger: logging.Logger, form: str) -> io.StringIO:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter(form))
    logger.addHandler(handler)
    return out


def run(work: Any, *contexts: dict[str, Any]) -> None:
    """``work`` for a record of each context."""

    class Works(RecordProcessor):
        def process(self, record: Record) -> None:
            work()

    lambda_handler(Works)(kinesis_event([{"__context__": context, "secret": "payload"} for context in contexts]))


class TestLogging:
    def test_a_format_has_the_id_and_the_others_by_their_names(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(correlation_id)s %(x-correlation-user-id)s %(traceparent)s %(message)s")
        correlation.log_to(logger)

        run(lambda: logger.info("hello"), BOTH)

        assert out.getvalue() == f"r-1 u-7 {TRACE} hello\n"

    def test_outside_of_any_event_the_id_is_empty_and_the_format_holds(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "[%(correlation_id)s] %(message)s")
        correlation.log_to(logger)

        logger.info("hello")

        assert out.getvalue() == "[] hello\n"

    def test_lines_of_loggers_below_have_it_too(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(correlation_id)s %(message)s")
        correlation.log_to(logger)

        run(lambda: logger.getChild("below").info("hello"), BOTH)

        assert out.getvalue() == "r-1 hello\n"

    def test_what_the_line_has_already_stays(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(correlation_id)s")
        correlation.log_to(logger)

        run(lambda: logger.info("hello", extra={"correlation_id": "mine"}), BOTH)

        assert out.getvalue() == "mine\n"

    def test_a_hostile_value_is_one_line_and_not_a_long_one(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(correlation_id)s %(message)s")
        correlation.log_to(logger)

        run(lambda: logger.info("hello"), {"x-correlation-id": "r\nERROR forged\x1b[2J\r" + "x" * 1_000_000})

        assert out.getvalue().count("\n") == 1
        assert len(out.getvalue()) < 300
        assert "\x1b" not in out.getvalue()

    def test_lines_below_the_level_pass_for_a_chain_with_the_debug_flag_only(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(correlation_id)s %(levelname)s")
        correlation.log_to(logger, "INFO")

        def work() -> None:
            logger.debug("detail")
            logger.info("hello")

        run(work, {"x-correlation-id": "a", "debug-log-enabled": "true"}, {"x-correlation-id": "b"})

        assert out.getvalue().splitlines() == ["a DEBUG", "a INFO", "b INFO"]

    def test_a_second_time_only_sets_the_level_anew(self, logger: logging.Logger) -> None:
        out = lines_to(logger, "%(message)s")
        correlation.log_to(logger, logging.ERROR)
        correlation.log_to(logger, logging.INFO)

        logger.info("hello")

        assert out.getvalue() == "hello\n"
        assert [type(one) for one in logger.filters] == [CorrelationFilter]

    def test_a_level_that_is_none_is_an_error(self, logger: logging.Logger) -> None:
        with pytest.raises(ValueError, match="LOUD"):
            correlation.log_to(logger, "LOUD")


class TestPowertools:
    @pytest.fixture
    def out(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def powertools(self, out: io.StringIO) -> Logger:
        return Logger(service=uuid.uuid4().hex, level="DEBUG", stream=out)

    def test_its_lines_have_it_as_keys(self, powertools: Logger, out: io.StringIO) -> None:
        correlation.log_to(powertools)

        run(lambda: powertools.info("hello", order=7), BOTH, {"x-correlation-id": "r-2"})

        first, second = (json.loads(line) for line in out.getvalue().splitlines())
        assert (first["correlation_id"], first["x-correlation-user-id"], first["traceparent"]) == ("r-1", "u-7", TRACE)
        assert (first["message"], first["order"]) == ("hello", 7)
        assert second["correlation_id"] == "r-2"
        assert "x-correlation-user-id" not in second
        assert "payload" not in out.getvalue()

    def test_the_debug_flag_is_for_its_lines_too(self, powertools: Logger, out: io.StringIO) -> None:
        correlation.log_to(powertools, "INFO")

        run(lambda: powertools.debug("detail"), {"x-correlation-id": "a", "debug-log-enabled": True}, {})

        assert [json.loads(line)["correlation_id"] for line in out.getvalue().splitlines()] == ["a"]


class TestStructlog:
    def test_its_lines_have_it_as_keys(self) -> None:
        out = io.StringIO()
        log = structlog.wrap_logger(
            structlog.PrintLogger(out),
            processors=[correlation.structlog_processor, structlog.processors.JSONRenderer()],
        )

        run(lambda: log.info("hello", order=7, traceparent="mine"), BOTH)
        log.info("outside")

        first, second = (json.loads(line) for line in out.getvalue().splitlines())
        assert first == {
            "event": "hello",
            "order": 7,
            "correlation_id": "r-1",
            "x-correlation-user-id": "u-7",
            "call-chain-length": "2",
            "traceparent": "mine",
        }
        assert second == {"event": "outside", "correlation_id": ""}
