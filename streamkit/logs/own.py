"""A function's own lines: who reads them writes new ones about each, and that goes on for ever."""

from __future__ import annotations

import logging
import os

from .. import metrics
from .delivery import Delivery

__all__ = ["is_own"]

log = logging.getLogger("streamkit")

_told: set[str] = set()


def is_own(delivery: Delivery) -> bool:
    """Whether this function has logged it, so that it is to be left out: ``delivery.is_data and not is_own(delivery)``.

    Its lines are counted in ``logs.own_lines``, and the log says once in a container how the loop is ended. The function's
    group is AWS_LAMBDA_LOG_GROUP_NAME, which Lambda sets; where it is not set nothing is the function's own.
    """
    own = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
    if not own or delivery.log_group != own:
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
