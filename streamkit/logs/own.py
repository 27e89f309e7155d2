"""A function's own lines: who reads them writes new ones about each, and that goes on for ever."""

from __future__ import annotations

import logging
import os

from .. import metrics
from ..deadline import ruling
from .delivery import Delivery

__all__ = ["is_own"]

log = logging.getLogger("streamkit")

_told: set[str] = set()


def is_own(delivery: Delivery) -> bool:
    """Whether this function has logged it, so that it is to be left out: ``delivery.is_data and not is_own(delivery)``.

    Its lines are counted in ``logs.own_lines``, and the log says once in a container how the loop is ended. The function's
    group is AWS_LAMBDA_LOG_GROUP_NAME, which Lambda sets; where it is not set nothing is the function's own. Nor is a group of
    the same name in another account, within an invocation whose context tells the function's ARN.

    A delivery does not tell its region: where several regions of one account deliver to one function, groups of this name in all
    of them count as its own, and their lines are dropped.
    """
    own = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
    if not own or delivery.log_group != own or not _is_of_this_account(delivery):
        return False
    metrics.count("logs.own_lines", len(delivery.log_events))
    if own not in _told:
        # Once: what is said here is delivered, too.
        _told.add(own)
        log.error(
            "the function's own log group %s is subscribed to the function, which is a loop; its lines are dropped. "
            "Remove it: aws logs delete-subscription-filter --log-group-name %s --filter-name %s",
            own,
            own,
            delivery.subscription_filters[0] if delivery.subscription_filters else "NAME",
        )
    return True


def _is_of_this_account(delivery: Delivery) -> bool:
    """Whether it may be: where either account is not known, its group's name alone tells, for a loop is the greater harm."""
    deadline = ruling.get()
    account = "" if deadline is None else deadline.account
    return not account or not delivery.owner or delivery.owner == account
