"""What a function's answer says about a batch, as Lambda reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["read_answer"]


def read_answer(
    answer: Any, numbers: Sequence[int], unknown_identifier: Literal["batch_failed", "ignored"] = "batch_failed"
) -> int | None:
    """Where an answer with ReportBatchItemFailures says that the batch failed: the index of the lowest number it names,
    ``len(numbers)`` for success, None where the whole batch failed.

    What is neither a success nor a list of failures, like a text or a number, is no JSON of the form that Lambda asks for:
    the whole batch failed.
    """
    if answer in ("", None) or answer == [] or answer == {}:
        return len(numbers)
    if not isinstance(answer, Mapping):
        return None
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return len(numbers)
    if not isinstance(failures, list):
        return None
    index_of = {str(number): index for index, number in enumerate(numbers)}
    named: list[int] = []
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
        if not isinstance(identifier, str) or not identifier:
            return None
        if identifier in index_of:
            named.append(index_of[identifier])
        elif unknown_identifier == "batch_failed":
            return None
    if not named:
        return None
    return min(named)
