"""What the deployable processors read from the environment: an error names the variable that is wrong, and has what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from streamkit.errors import ConfigurationError

__all__ = ["named", "true_or_false", "whole_number"]

# Characters of a value that an error has.
_SHOWN = 80


@contextmanager
def named(*variables: str) -> Iterator[None]:
    """Any ConfigurationError within begins with the variables that it may be about, since what is made of them knows none.

    One alone is shown with its value, so it is to hold no secret; of several the error itself tells which it is.
    """
    try:
        yield
    except ConfigurationError as error:
        if len(variables) == 1:
            place = f"{variables[0]}={_shown(os.environ.get(variables[0], ''))}"
        else:
            place = f"{', '.join(variables[:-1])} or {variables[-1]}"
        raise ConfigurationError(f"{place}: {error}") from None


def true_or_false(variable: str) -> bool:
    """False by default. ConfigurationError for any other word, which nobody knows the meaning of."""
    text = os.environ.get(variable) or "false"
    if text.lower() not in ("true", "false"):
        raise ConfigurationError(f'{variable} is "true" or "false"; got {_shown(text)}')
    return text.lower() == "true"


def whole_number(variable: str, default: int, *, least: int, most: int | None = None) -> int:
    """ConfigurationError for what is no whole number, or out of its bounds, both of which it may be."""
    text = os.environ.get(variable) or str(default)
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most:,}"
        raise ConfigurationError(f"{variable} is a whole number, {bounds}; got {_shown(text)}")
    return number


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])
