"""Enhanced fan-out over the end of its subscriptions. The reading begins with the first test of the folder, and this is the
last: conftest.py sees to both.
"""

from __future__ import annotations

import pytest

from .renewal import AFTER, LONGEST_SUBSCRIPTION, LongReading


# Alone it waits for all of the five minutes.
@pytest.mark.timeout(LONGEST_SUBSCRIPTION + 120)
def test_a_subscription_that_ends_after_five_minutes_is_renewed_without_loss_or_repeat(
    long_reading: LongReading,
) -> None:
    long_reading.join()
    if long_reading.error is not None:
        raise long_reading.error

    busy, quiet, silent = (long_reading.positions(key) for key in ("busy", "quiet", "silent"))
    assert [position["Type"] for position in busy] == ["LATEST", "AFTER_SEQUENCE_NUMBER"]
    assert [position["Type"] for position in quiet] == ["LATEST", "AFTER_SEQUENCE_NUMBER"]
    assert [position["Type"] for position in silent] == ["LATEST", "AT_TIMESTAMP"]
    before = long_reading.puts_at_renewal
    assert before["busy"] > AFTER
    assert (before["quiet"], before["silent"]) == (1, 0)
    assert long_reading.puts["busy"] > before["busy"] + AFTER
    assert (long_reading.puts["quiet"], long_reading.puts["silent"]) == (2, 1)
    assert long_reading.seen == {key: list(range(count)) for key, count in long_reading.puts.items()}
