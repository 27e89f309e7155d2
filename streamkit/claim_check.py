"""The bodies of a batch's claims, fetched by the stores of the policy's queues."""

from __future__ import annotations

from .claims.base import Claim, ClaimStore, StoreAway
from .deadline import Deadline
from .errors import DecodeError, Unavailable
from .policy import Policy
from .reason import reason

__all__ = ["ClaimCheck"]

# Of all the bodies of one batch. A batch of ten messages can stand for 140 MB, more than a small function has.
_MOST_BYTES = 64 * 1_048_576


class ClaimCheck:
    """Opens the claims of one invocation: with the stores of the queues that ``policies`` send to, and of their dead letters.

    What it can't open now is Unavailable, and comes again: a store that is away is not asked a second time, and the first body
    is fetched whatever it takes, further ones while there is time and memory.
    """

    def __init__(self, deadline: Deadline, *policies: Policy) -> None:
        queues = [queue for policy in policies for queue in (policy.queue, policy.dead_letters)]
        self._stores = [queue.claims for queue in queues if queue is not None and queue.claims is not None]
        self._deadline = deadline
        self._fetched = 0
        self._away: list[ClaimStore] = []

    def fetch(self, claim: Claim) -> str:
        """The body; Unavailable, or DecodeError where it is gone for good."""
        try:
            return self._fetch(claim)
        except (DecodeError, Unavailable):
            raise
        except Exception as error:
            raise Unavailable(reason(error)) from error

    def _fetch(self, claim: Claim) -> str:
        store = self._store_of(claim)
        if store in self._away:
            raise Unavailable(f"what keeps its body is away: {claim.place}")
        if self._fetched and (self._fetched + claim.bytes > _MOST_BYTES or not self._deadline.allows_another()):
            raise Unavailable(f"its body waits for a batch with room and time for it: {claim.place}")
        try:
            body = self._deadline.request(store, lambda deadline: store.fetch(claim, deadline=deadline))
        except StoreAway:
            self._away.append(store)
            raise
        self._fetched += claim.bytes
        return body

    def _store_of(self, claim: Claim) -> ClaimStore:
        if not self._stores:
            raise Unavailable(
                f'give a queue of the policy claims=S3Claims("{claim.bucket}"): its body is {claim.place}'
            )
        return next((store for store in self._stores if store.bucket == claim.bucket), self._stores[0])
