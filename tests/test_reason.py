from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit.errors import DecodeError
from streamkit.event import decode
from streamkit.reason import reason
from streamkit.record import Record
from streamkit.testing import kinesis_event

PAYLOAD = b'{"card": "4111-1111", "name": "J\xc3\xbcrgen"}'


def record_of(data: bytes = PAYLOAD) -> Record:
    return decode(kinesis_event([data])).records[0]


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


class TestReason:
    def test_is_the_type_and_the_message(self) -> None:
        assert reason(ValueError("total is missing")) == "ValueError: total is missing"

    def test_of_an_error_without_a_message_is_its_type(self) -> None:
        assert reason(ValueError()) == "ValueError"
        assert reason(ValueError(" \n ")) == "ValueError"

    def test_says_where_it_was_raised(self) -> None:
        assert reason(raised(ValueError("bad"))).startswith("ValueError: bad (test_reason.py:")

    def test_says_where_outside_streamkit(self) -> None:
        def call_into_streamkit() -> None:
            record_of(b"no JSON").json()

        with pytest.raises(DecodeError) as caught:
            call_into_streamkit()

        assert "(test_reason.py:" in reason(caught.value)

    @given(st.text(st.characters() | st.sampled_from("\ud800\udfff")))
    @example("\ud800")
    def test_is_one_short_line_that_can_be_written_anywhere(self, message: str) -> None:
        line = reason(ValueError(message), record_of())

        assert len(line.splitlines()) == 1
        assert len(line) <= 200 + len("ValueError: ")
        line.encode()

    def test_is_the_first_line_only(self) -> None:
        assert reason(ValueError("first\nsecond\rthird")) == "ValueError: first"

    @pytest.mark.parametrize(
        "message",
        [
            PAYLOAD.decode(),
            f"bad record {PAYLOAD.decode()}!",
            f"bad record {PAYLOAD!r}!",
            f"bad record {PAYLOAD.decode()!r}!",
            f"{PAYLOAD!r} and {PAYLOAD!r}",
        ],
    )
    def test_never_holds_the_payload(self, message: str) -> None:
        line = reason(ValueError(message), record_of())

        assert "4111" not in line
        assert "rgen" not in line
        assert "<payload>" in line

    def test_of_a_record_that_can_not_be_decoded_is_still_given(self) -> None:
        event = kinesis_event([b"x"])
        event["Records"][0]["kinesis"]["data"] = "%%%"
        record = decode(event).records[0]

        assert (
            reason(DecodeError("the data is not valid base64"), record) == "DecodeError: the data is not valid base64"
        )

    def test_a_short_payload_does_not_blank_words_that_it_happens_to_be(self) -> None:
        assert reason(ValueError("7 items are missing"), record_of(b"7")) == "ValueError: 7 items are missing"

    def test_an_error_that_can_not_be_printed_still_has_a_type(self) -> None:
        class Careless(Exception):
            def __str__(self) -> str:
                return self.args[0]["message"]  # type: ignore[no-any-return]

        assert reason(raised(Careless())).startswith("Careless")

    def test_an_error_of_the_system_exits_kind_is_no_exception(self) -> None:
        assert reason(SystemExit(3)) == "SystemExit: 3"
