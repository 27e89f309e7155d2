"""One seeded schedule of the producer: its shipped state machine, packing, futures and error table, before a simulated Kinesis.

Simulated are the clock, the threads (their steps interleaved: two that put, up to three that send) and the service: shards that
are split and merged while requests are under way, lists of shards that are old, in pieces or refused, records refused one by one
(an earlier one of a request while a later one is taken), whole requests throttled, refused as wrong, or without an answer (taken,
not taken, or taken later, when others have followed). While it runs and at its end:

  - at most one request is under way for a shard, with one aggregate for it, or plain records with one of each key;
  - the shards' write limits are kept, and the request's, and what is not settled is counted right;
  - in the shards' logs, as a reader finds them who drops strangers as the Kinesis Client Library does, the first
    occurrences of a key's records are in the order in which they were put; a repeat is never behind a newer one of its key but
    of one that came in the same aggregate, or where a request was taken after it was given up;
  - a record that failed is told of, and none that was put before that, and behind it, is in the stream (but where it was wrong);
  - a record that is wrong fails, and no other fails for it;
  - what a future says is in the log, word for word, in a shard that covers it; what failed without a "perhaps" is in none;
  - when the faults are over, every record is settled, and nobody waits for a time that does not come;
  - records of a key that was spread come out of ``InOrder`` in order.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from streamkit.errors import DeliveryError
from streamkit.kpl import deaggregate
from streamkit.producer.exchange import Change, listed, sent
from streamkit.producer.future import Entry, PutFuture, Receipt, Settlement, settle
from streamkit.producer.outbox import Outbox, Request, Settings
from streamkit.producer.shards import HASH_KEYS, hash_of
from streamkit.producer.spread import InOrder, Spreader
from streamkit.producer.wire import Wire

from .world import Violation

_TAKEN_LATE = 30.0


class Letter:
    """What the schedule knows of one record. ``group`` is what its order is kept in; ``number`` its place there."""

    def __init__(self, group: str, number: int, entry: Entry, put_at: int) -> None:
        self.group = group
        self.number = number
        self.entry = entry
        self.put_at = put_at
        self.told_at: int | None = None
        self.hash_key = hash_of(entry.partition_key, entry.explicit_hash_key)

    @property
    def receipt(self) -> Receipt | None:
        future = self.entry.future
        return future.result(0) if future.exception(0) is None else None

    @property
    def error(self) -> DeliveryError | None:
        error = self.entry.future.exception(0)
        assert error is None or isinstance(error, DeliveryError)
        return error


class SimulatedShard:
    """``log`` is of (sequence number, data, partition key)."""

    def __init__(self, number: int, first: int, last: int) -> None:
        self.shard_id = f"shardId-{number:012}"
        self.number = number
        self.first, self.last = first, last
        self.is_open = True
        self.log: list[tuple[str, bytes, str]] = []

    def described(self) -> dict[str, Any]:
        numbers = {"StartingSequenceNumber": "0"} | ({} if self.is_open else {"EndingSequenceNumber": "9"})
        hash_keys = {"StartingHashKey": str(self.first), "EndingHashKey": str(self.last)}
        return {"ShardId": self.shard_id, "HashKeyRange": hash_keys, "SequenceNumberRange": numbers}


class Flight:
    """A request, or a list of shards, under way. ``change`` is there when its answer has come."""

    def __init__(self, request: Request | None) -> None:
        self.request = request
        self.change: Change | None = None


class Dispatch:
    """Everything of one schedule. ``trace`` says what happened, a line each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choice = self.random.choice
        self.trace: list[str] = []
        self.now = 1000.0
        #: Counts the steps: of two things at one time, which came first.
        self.step = 0
        self.faults = {
            "record is refused": choice([0.0, 0.1, 0.4]),
            "request is throttled": choice([0.0, 0.1]),
            "request is not reached": choice([0.0, 0.05]),
            "request fails untaken": choice([0.0, 0.1]),
            "answer is lost": choice([0.0, 0.1, 0.3]),
            "taken late": choice([0.0, 0.0, 0.0, 0.2]),
            "denied": choice([0.0, 0.0, 0.0, 0.03]),
            "answer is short": choice([0.0, 0.0, 0.03]),
            "list fails": choice([0.0, 0.2]),
            "list is denied": choice([0.0, 0.0, 0.1]),
            "list is old": choice([0.0, 0.0, 0.4]),
            "list is in pieces": choice([0.0, 0.2]),
            "reshard": choice([0.0, 0.03, 0.1]),
        }
        self.poison = choice([0.0, 0.0, 0.02])
        self.settings = Settings(
            is_aggregating=choice([True, True, False]),
            linger=choice([0.0, 0.1, 2.0]),
            record_ttl=choice([None, None, 4.0, 60.0]),
            aggregate_bytes=choice([120, 300, 1000]),
            request_records=choice([3, 500]),
            request_bytes=choice([400, 100_000]),
            bytes_per_second=choice([100.0, 2000.0, 1e6]),
            records_per_second=choice([3.0, 1000.0]),
            map_seconds=choice([5.0, 300.0]),
        )
        self.outbox = Outbox(self.settings, self.random.random)
        self.wire = Wire("orders", self, 1)
        self.spreader = Spreader()
        self.senders = choice([1, 2, 3])
        self.keys = [f"k{n}" for n in range(choice([1, 3, 12]))]
        self.shards: list[SimulatedShard] = []
        for n, count in enumerate([choice([1, 2, 4])]):
            for number in range(count):
                self.shards.append(
                    SimulatedShard(n + number, HASH_KEYS * number // count, HASH_KEYS * (number + 1) // count - 1)
                )
        self.lists = [self.described()]
        self.flights: list[Flight] = []
        self.late: list[tuple[float, list[dict[str, Any]]]] = []
        self.had_late = False
        self.letters: dict[bytes, Letter] = {}
        self.groups: dict[str, list[Letter]] = defaultdict(list)
        self.unsettled: dict[int, Entry] = {}
        self.inbox: list[Entry] = []
        #: What was taken for each shard: (time, bytes, records).
        self.spent: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
        self.sequence = 0

    # The schedule.

    def run(self) -> None:
        """Play it, end the faults, see everything settled, and read the logs."""
        for _ in range(self.random.randint(20, 200)):
            self.play()
        self.note("the faults are over")
        self.faults = dict.fromkeys(self.faults, 0.0)
        self.run_until_idle()
        self.take_late(float("inf"))
        self.check_futures()
        self.check_order()
        self.check_spread()

    def play(self) -> None:
        self.step += 1
        choice = self.random.random()
        if choice < 0.35:
            for _ in range(self.random.randint(1, 5)):
                self.put()
        elif choice < 0.45:
            self.now += self.random.choice([0.01, 0.1, 0.5, 3.0, 20.0])
            self.take_late(self.now)
        elif choice < 0.48:
            self.note("flush")
            self.empty_inbox()
            self.outbox.flush(self.now)
        elif choice < 0.48 + self.faults["reshard"]:
            self.reshard()
        else:
            self.send()
        self.check_count()

    def run_until_idle(self) -> None:
        for _ in range(20_000):
            self.step += 1
            if self.send():
                continue
            if not self.outbox.count:
                return
            then = self.outbox.next_at(self.now)
            if then == float("inf"):
                raise Violation(f"{self.outbox.count} records wait for nothing")
            # What an hour does not bring it never does.
            if then > self.now + 3600:
                raise Violation(f"{self.outbox.count} records wait for {then - self.now} s")
            self.now = max(then, self.now + 1e-6)
            self.check_count()
        raise Violation("it does not come to an end")

    def send(self) -> bool:
        """One step of one sender: whether there was one."""
        if self.flights and (len(self.flights) >= self.senders or self.random.random() < 0.6):
            flight = self.random.choice(self.flights)
            if flight.change is None:
                flight.change = (
                    listed(self.outbox, self.wire)
                    if flight.request is None
                    else sent(self.outbox, self.wire, flight.request)
                )
            else:
                self.flights.remove(flight)
                self.empty_inbox()
                self.tell(flight.change(self.now))
            return True
        # As Producer's own senders go about it.
        self.empty_inbox()
        settled = self.outbox.expire(self.now)
        if settled:
            self.tell(settled)
        elif self.outbox.wants_map(self.now):
            self.outbox.ask_map(self.now)
            self.flights.append(Flight(None))
        else:
            request = self.outbox.take(self.now)
            if request is None:
                if not self.flights:
                    return False
                return self.send()
            self.check_request(request)
            self.flights.append(Flight(request))
        return True

    def empty_inbox(self) -> None:
        self.outbox.add(self.inbox)
        self.inbox = []

    def put(self) -> None:
        """By one of two threads: which of them does not matter here, as both have the lock."""
        key = self.random.choice(self.keys)
        chance = self.random.random()
        hash_key: str | None = None
        group = key
        if chance < 0.1:
            hash_key = str(self.random.choice([0, HASH_KEYS // 3, HASH_KEYS - 1]))
            group = f"{key} at {hash_key}"
        elif chance < 0.25:
            key = group = "hot"
        number = len(self.groups[group])
        text = f"{group}:{number}:".encode() + b"x" * self.random.choice([0, 0, 10, 100, 1100])
        if self.random.random() < self.poison:
            text += b"poison"
        if key == "hot":
            text, hash_key = self.spreader.spread(text, key, 3)
        entry = Entry(text, key, hash_key, PutFuture(), self.now)
        self.unsettled[id(entry)] = entry
        self.inbox.append(entry)
        letter = self.letters[text] = Letter(group, number, entry, self.step)
        self.groups[group].append(letter)
        self.note(f"put {group}:{number}, {len(text)} bytes")

    def tell(self, settled: list[Settlement]) -> None:
        for settlement in settled:
            names = []
            for entry in settlement.entries:
                letter = self.letters[entry.data]
                if id(entry) not in self.unsettled:
                    raise Violation(f"{letter.group}:{letter.number} is settled twice")
                del self.unsettled[id(entry)]
                letter.told_at = self.step
                names.append(f"{letter.group}:{letter.number}")
            outcome = settlement.outcome
            held = sum(len(entry.data) + len(entry.partition_key) for entry in settlement.entries)
            if settlement.held != held:
                raise Violation(f"{held} bytes are settled as {settlement.held}: the backlog is wrong")
            self.note(f"  settled {names}: {outcome.error or f'{outcome.shard_id[-3:]}/{outcome.sequence_number}'}")
            settle(settlement)

    # The service.

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's names.
        assert StreamName == "orders"
        if self.happens("request is throttled"):
            raise error_of("LimitExceededException", 400)
        if self.happens("request is not reached"):
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")
        if self.happens("denied"):
            raise error_of("AccessDeniedException", 400)
        if any(b"poison" in record["Data"] for record in Records):
            self.note("  the request is wrong")
            raise error_of("ValidationException", 400)
        if self.happens("request fails untaken"):
            raise error_of("InternalFailure", 500)
        if self.happens("taken late"):
            self.had_late = True
            self.late.append((self.now + self.random.uniform(0, _TAKEN_LATE), Records))
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        results = [self.put_record(record) for record in Records]
        if self.happens("answer is lost"):
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        if self.happens("answer is short"):
            results.pop()
        return {"Records": results}

    def put_record(self, record: dict[str, Any]) -> dict[str, Any]:
        if self.happens("record is refused"):
            code = self.random.choice(["ProvisionedThroughputExceededException", "InternalFailure"])
            return {"ErrorCode": code, "ErrorMessage": "for a while"}
        hash_key = hash_of(record["PartitionKey"], record.get("ExplicitHashKey"))
        (shard,) = [shard for shard in self.shards if shard.is_open and shard.first <= hash_key <= shard.last]
        self.sequence += 1
        shard.log.append((str(self.sequence), record["Data"], record["PartitionKey"]))
        self.note(f"  {shard.shard_id[-3:]} takes {self.sequence}: {len(record['Data'])} bytes")
        return {"ShardId": shard.shard_id, "SequenceNumber": str(self.sequence)}

    def take_late(self, until: float) -> None:
        late, self.late = self.late, []
        for at, records in late:
            if at <= until:
                self.note("  late")
                for record in records:
                    self.put_record(record)
            else:
                self.late.append((at, records))

    def list_shards(self, **arguments: str) -> dict[str, Any]:
        if "NextToken" in arguments:
            return {"Shards": self.lists[-1][int(arguments["NextToken"]) :]}
        if self.happens("list fails"):
            raise error_of("LimitExceededException", 400)
        if self.happens("list is denied"):
            raise error_of("AccessDeniedException", 400)
        shards = self.random.choice(self.lists[-3:]) if self.happens("list is old") else self.lists[-1]
        if self.happens("list is in pieces"):
            shards = self.random.sample(shards, self.random.randint(0, len(shards)))
        elif shards is self.lists[-1] and len(shards) > 1:
            return {"Shards": shards[:1], "NextToken": "1"}
        return {"Shards": shards}

    def described(self) -> list[dict[str, Any]]:
        return [shard.described() for shard in self.shards]

    def reshard(self) -> None:
        open_ = sorted((shard for shard in self.shards if shard.is_open), key=lambda shard: shard.first)
        n = self.random.randrange(len(open_))
        one = open_[n]
        if n + 1 < len(open_) and self.random.random() < 0.5:
            one.is_open = open_[n + 1].is_open = False
            self.shards.append(SimulatedShard(len(self.shards), one.first, open_[n + 1].last))
            self.note(f"merge {one.shard_id[-3:]} and {open_[n + 1].shard_id[-3:]}")
        elif one.last - one.first > 1000 and len(open_) < 8:
            one.is_open = False
            hashes = [letter.hash_key for letter in self.letters.values() if one.first < letter.hash_key <= one.last]
            # Where keys are on both sides, mostly.
            middle = self.random.choice([*hashes[-5:], (one.first + one.last) // 2])
            self.shards.append(SimulatedShard(len(self.shards), one.first, middle - 1))
            self.shards.append(SimulatedShard(len(self.shards), middle, one.last))
            self.note(f"split {one.shard_id[-3:]}")
        self.lists.append(self.described())

    # The checks.

    def check_request(self, request: Request) -> None:
        shards: dict[str, list[Any]] = defaultdict(list)
        for parcel, outlet in zip(request.parcels, request.outlets, strict=True):
            shards[outlet.shard.shard_id].append(parcel)
        self.note(f"request { ({shard[-3:]: [p.size for p in parcels] for shard, parcels in shards.items()}) }")
        busy = {
            outlet.shard.shard_id
            for flight in self.flights
            if flight.request is not None
            for outlet in flight.request.outlets
        }
        if busy & shards.keys():
            raise Violation(f"two requests are under way for {busy & shards.keys()}")
        sizes = []
        for shard_id, parcels in shards.items():
            keys = [parcel.entries[0].partition_key for parcel in parcels]
            is_packed = any(parcel.aggregation is not None for parcel in parcels)
            if len(set(keys)) < len(keys) or (is_packed and len(parcels) > 1):
                raise Violation(f"a request has {keys} for {shard_id}")
            for parcel in parcels:
                data, key, hash_key = parcel.content()
                sizes.append(len(data) + len(key))
                self.check_parcel(parcel, data, key, hash_key)
            self.spend(shard_id, sum(sizes[-len(parcels) :]), len(parcels))
        if len(sizes) > self.settings.request_records or (len(sizes) > 1 and sum(sizes) > self.settings.request_bytes):
            raise Violation(f"a request of {sizes}")

    def check_parcel(self, parcel: Any, data: bytes, key: str, hash_key: str | None) -> None:
        if len(data) + len(key) != parcel.size:
            raise Violation(f"{len(data) + len(key)} bytes counted as {parcel.size}")
        if parcel.aggregation is not None and parcel.size > self.settings.aggregate_bytes:
            raise Violation(f"an aggregate of {parcel.size} bytes")

    def spend(self, shard_id: str, size: int, count: int) -> None:
        spent = self.spent[shard_id]
        spent.append((self.now, size, count))
        bytes_, records, largest = 0, 0, 0
        for at, one_size, one_count in reversed(spent):
            bytes_, records, largest = bytes_ + one_size, records + one_count, max(largest, one_size)
            seconds = self.now - at + 1
            if bytes_ > largest + self.settings.bytes_per_second * seconds + 1:
                raise Violation(f"{bytes_} bytes for {shard_id} in {seconds - 1} s")
            if records > self.settings.records_per_second * seconds + self.settings.request_records:
                raise Violation(f"{records} records for {shard_id} in {seconds - 1} s")

    def check_count(self) -> None:
        count = self.outbox.count + len(self.inbox)
        if count != len(self.unsettled):
            raise Violation(f"{len(self.unsettled)} records are not settled, and {count} counted")

    def check_futures(self) -> None:
        if self.unsettled:
            raise Violation(f"{len(self.unsettled)} records are not settled")
        shards = {shard.shard_id: shard for shard in self.shards}
        places = self.places()
        for letter in self.letters.values():
            name = f"{letter.group}:{letter.number}"
            receipt = letter.receipt
            if receipt is None:
                assert letter.error is not None
                if "ValidationException" in str(letter.error) and b"poison" not in letter.entry.data:
                    raise Violation(f"{name} has failed for another")
                if places[letter.entry.data] and not letter.error.perhaps:
                    raise Violation(f"{name} has failed, and is in {places[letter.entry.data]}")
                continue
            if (receipt.shard_id, receipt.sequence_number, receipt.sub_sequence_number) not in places[
                letter.entry.data
            ]:
                raise Violation(f"{name} is not at {receipt}")
            shard = shards[receipt.shard_id]
            if not shard.first <= letter.hash_key <= shard.last:
                raise Violation(f"{name} is said to lie in a shard that does not cover it")

    def places(self) -> dict[bytes, list[tuple[str, str, int | None]]]:
        found: dict[bytes, list[tuple[str, str, int | None]]] = defaultdict(list)
        for shard in self.shards:
            for sequence_number, place, data, _ in self.read(shard):
                found[data].append((shard.shard_id, sequence_number, place))
        return found

    def read(self, shard: SimulatedShard) -> Iterator[tuple[str, int | None, bytes, str]]:
        """The shard's user records but for strangers: (sequence number, sub-sequence number, data, key)."""
        for sequence_number, data, key in shard.log:
            users = deaggregate(data)
            if users is None:
                yield sequence_number, None, data, key
                continue
            for user in users:
                assert user.partition_key is not None
                hash_key = hash_of(user.partition_key, user.explicit_hash_key)
                if shard.first <= hash_key <= shard.last:
                    yield sequence_number, user.sub_sequence_number, user.data, user.partition_key

    def check_order(self) -> None:
        # A shard is read after its parents, which have lower numbers.
        seen: dict[str, list[int]] = defaultdict(list)
        #: Of each record, those that came in one aggregate with it so far.
        beside: dict[tuple[str, int], set[int]] = defaultdict(set)
        for shard in self.shards:
            for _, together in groupby(self.read(shard), key=itemgetter(0)):
                numbers_of: dict[str, list[int]] = defaultdict(list)
                for _, _, data, _ in together:
                    letter = self.letters[data]
                    numbers_of[letter.group].append(letter.number)
                for group, numbers in numbers_of.items():
                    if group == "hot":
                        continue
                    for number in numbers:
                        newer = {one for one in seen[group] if one > number} - beside[(group, number)]
                        if newer and not self.had_late:
                            raise Violation(f"{group}:{number} is repeated behind {newer}")
                    seen[group] += numbers
                    for number in numbers:
                        beside[(group, number)].update(numbers)
        for group, numbers in seen.items():
            first = list(dict.fromkeys(numbers))
            if self.had_late:
                # What was given up with a "perhaps" may turn up whenever the network brings it.
                first = [number for number in first if self.groups[group][number].error is None]
            if first != sorted(first):
                raise Violation(f"{group} is in the stream as {numbers}")
            letters = self.groups[group]
            for letter in letters:
                if letter.error is None or letter.number in numbers or b"poison" in letter.entry.data:
                    continue
                later = [n for n in first if n > letter.number and letters[n].put_at < (letter.told_at or 0)]
                if later:
                    raise Violation(f"{group}:{letter.number} has failed, and {later} behind it were put")

    def check_spread(self) -> None:
        in_order: InOrder[Letter] = InOrder(clock=lambda: self.now)
        letters: list[Letter] = []
        # Shards side by side, but each after those of lower numbers that it may be a child of.
        logs = [[(key, data) for _, _, data, key in self.read(shard)] for shard in self.shards]
        while any(logs):
            log = self.random.choice([log for log in logs if log])
            key, data = log.pop(0)
            letters += in_order.add(key, data, self.letters[data])
        self.now += 1000
        letters += in_order.due()
        numbers = [letter.number for letter in letters if letter.group == "hot"]
        if in_order.held or numbers != sorted(set(numbers)):
            raise Violation(f"spread records come as {numbers}")
        missing = {letter.number for letter in self.groups["hot"] if letter.error is None} - set(numbers)
        if missing:
            raise Violation(f"spread records {missing} do not come")

    def happens(self, fault: str) -> bool:
        if self.faults[fault] and self.random.random() < self.faults[fault]:
            self.note(f"  {fault}")
            return True
        return False

    def note(self, line: str) -> None:
        self.trace.append(f"{self.now:.3f} {line}")


def error_of(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "simulated"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutRecords"
    )
