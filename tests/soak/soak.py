"""A soak from its start to its balance: puts records, kills processes, mends the cause, puts letters back, and looks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import msgspec
from local_process import LOOPBACK, Running, answers, running

from streamkit.checkpoints.sqlite import SqliteCheckpoints

from .archive import Archive
from .balance import Balance, balanced
from .faults import Faults, counted
from .function import processor_name
from .ledger import SqliteLedger
from .memory import Sampler, growth
from .plan import SHARDS, STREAMS, Plan
from .producer import Producer
from .worker import WORKERS, Config, client, stream_name

__all__ = ["Options", "Report", "new_folder", "soak"]

ROOT = Path(__file__).resolve().parents[2]
#: Seconds without anything happening after which what is not done counts as stuck.
_STUCK_AFTER = 180.0
_MEMORY = Path("/dev/shm")
_DEAD = (*(f"{stream}-dead" for stream in STREAMS), "block-given-up-dead", "aged-given-up-dead")
_MOST_REDRIVES = 6


def new_folder() -> Path:
    """A folder for a soak: in memory, where there is a file system there.

    What is asked is what outlives a killed process, and not a power cut; and checkpoints that wait for a disk a hundred thousand
    times are a soak of the disk.
    """
    return Path(tempfile.mkdtemp(prefix="soak-", dir=_MEMORY if _MEMORY.is_dir() else None))


class Options(msgspec.Struct, frozen=True):
    records: int
    seed: int = 1
    rate: float = 0.01
    rounds: int = 1
    #: SIGKILLs of each worker, and of ``streamkit redrive``, in the first round.
    kills: int = 2
    #: Seconds: the visibility time-out of the retry queues.
    visibility: int = 6
    #: MB that a worker's memory may grow by where that is over 10 %.
    slack: float = 10.0
    planted: tuple[str, ...] = ()
    ledger_patience: float = 20.0


class Report(msgspec.Struct):
    """What came of it. ``wrong`` is empty where the balance holds."""

    balance: Balance
    wrong: list[str]
    seconds: float
    put_back: int
    kills: int
    faults: dict[str, tuple[int, int]]
    #: Of each worker's last life: MB at the end of its first fifth, at the end, at most.
    memory: dict[str, tuple[float, float, float]]


class _Worker:
    """A worker's process, which may be killed and started again."""

    def __init__(self, name: str, folder: Path, sampler: Sampler) -> None:
        self.name = name
        self._folder = folder
        self._sampler = sampler
        self._lives = 0
        self._log: IO[bytes] = (folder / f"{name}.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self._has_ended_by_itself = False

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.soak.worker", self.name, str(self._folder / "config"), str(self._lives)]
        # Fewer arenas: what several threads free is given back to the one heap, and growth is the program's own.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._log, stderr=self._log, env=environment)
        self._lives += 1
        self._sampler.follow(self.name, self.process.pid)

    def kill(self) -> None:
        assert self.process is not None
        self._has_ended_by_itself |= self.process.poll() is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def has_failed(self) -> bool:
        """Whether it has ended, and not because it was killed here."""
        code = None if self.process is None else self.process.poll()
        return self._has_ended_by_itself or code not in (None, -signal.SIGKILL)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._log.close()

    def last_lines(self) -> str:
        return "\n".join((self._folder / f"{self.name}.log").read_text(errors="replace").splitlines()[-15:])


@contextlib.contextmanager
def _server(name: str, path: str = "/") -> Iterator[Running]:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", f"tests.soak.{name}", LOOPBACK, str(port)]

    with running(
        f"soak-{name}",
        command,
        answers(path),
        env={"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "localstack")])},
    ) as server:
        yield server


def soak(options: Options, folder: Path, say: Callable[[str], None] = lambda line: None) -> Report:
    """Run it in ``folder``, and give the account. What went wrong in the machinery itself is raised."""
    with _server("cloud", "/moto-api/") as cloud, _server("sqs") as sqs:
        run = _Soak(options, folder, cloud, sqs, say)
        try:
            return run.run()
        finally:
            run.close()


class _Soak:
    def __init__(
        self, options: Options, folder: Path, cloud: Running, sqs: Running, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._endpoints = cloud.endpoint, sqs.endpoint
        self._plan = Plan(options.records, options.rounds, options.seed, options.rate)
        self._kinesis, self._sqs = client("kinesis", cloud.endpoint), client("sqs", sqs.endpoint)
        self._urls: dict[str, str] = {}
        self._ledger = SqliteLedger(folder / "ledger.sqlite")
        self._checkpoints = SqliteCheckpoints(folder / "checkpoints.sqlite")
        self._sampler = Sampler()
        for name, server in (("Kinesis", cloud), ("SQS", sqs)):
            self._sampler.follow(name, _server_of(server.pid))
        self._workers = [_Worker(name, folder, self._sampler) for name in WORKERS]
        self._faults = Faults(folder / "faults", seed=options.seed, name="producer", life=0, rate=options.rate)
        self._producer = Producer(self._kinesis, self._faults)
        self._archive = Archive(folder / "letters.sqlite")
        self._drawn = random.Random(f"{options.seed}/kills")
        self._kills = 0
        self._put_back = 0
        self._stuck: list[str] = []
        self._began = time.monotonic()
        self._said_at = 0.0

    def run(self) -> Report:
        self._create()
        for worker in self._workers:
            worker.start()
        for number in range(self._plan.rounds):
            self._round(number)
            if self._stuck:
                break
        seconds = time.monotonic() - self._began
        parked = self._ledger.parked(processor_name("park"), deadline=time.monotonic() + 60)
        memory, grown = self._memory()
        for worker in self._workers:
            worker.stop()
        self._say("reading what went in, and comparing")
        balance = balanced(self._folder, self._kinesis, self._archive, self._plan.records)
        wrong = [*self._stuck, *balance.wrong, *grown]
        wrong += [
            f"{len(key.pending)} ids are left in the ledger, in the group {group}" for group, key in parked.items()
        ]
        wrong += [f"{count} messages are left in {name}" for name, count in self._held().items() if count]
        return Report(balance, wrong, seconds, self._put_back, self._kills, counted(self._folder / "faults"), memory)

    def _create(self) -> None:
        (self._folder / "journal").touch()
        for stream in STREAMS:
            self._kinesis.create_stream(StreamName=stream_name(stream), ShardCount=SHARDS)
        standard = {"VisibilityTimeout": str(self._options.visibility)}
        for name in [
            *_DEAD,
            *(f"{stream}-retries" for stream in ("block", "divert", "aged")),
            "block-documents",
            "aged-documents",
        ]:
            self._urls[name] = self._sqs.create_queue(QueueName=f"soak-{name}", Attributes=standard)["QueueUrl"]
        fifo = {**standard, "FifoQueue": "true"}
        self._urls["park-retries"] = self._sqs.create_queue(QueueName="soak-park-retries.fifo", Attributes=fifo)[
            "QueueUrl"
        ]
        config = Config(
            *self._endpoints,
            str(self._folder),
            self._options.seed,
            self._options.rate,
            self._options.visibility,
            self._urls,
            list(self._options.planted),
        )
        (self._folder / "config").write_bytes(msgspec.json.encode(config))

    # A round.

    def _round(self, number: int) -> None:
        self._say(f"round {number + 1} of {self._plan.rounds}: putting records")
        killer = threading.Thread(target=self._kill_workers, daemon=True)
        if number == 0 and self._options.kills:
            killer.start()
        for put in self._plan.round(number):
            self._producer.put(put)
            self._show()
        self._producer.flush()
        if number == 0 and self._options.kills:
            killer.join()
        if not self._wait_until_idle("the stream"):
            return
        (self._folder / "mended").write_text(str(number + 1))
        for again in range(_MOST_REDRIVES):
            left = self._letters_to_put_back()
            if not left:
                return
            if again == 0:
                self._say(f"round {number + 1}: mended; putting {sum(left.values())} letters back")
            is_killed = number == 0 and again == 0 and self._options.kills > 0
            with ThreadPoolExecutor(len(left)) as pool:
                for put_back in pool.map(
                    lambda name, is_killed=is_killed: self._redrive(name, is_killed=is_killed), left
                ):
                    self._put_back += put_back
            if not self._wait_until_idle("what was put back"):
                return
        self._stuck.append(f"letters come back after {_MOST_REDRIVES} redrives: {self._letters_to_put_back()}")

    def _kill_workers(self) -> None:
        """SIGKILL at moments drawn by the seed, while the first round is at its busiest."""
        for _ in range(self._options.kills):
            for worker in self._workers:
                time.sleep(self._drawn.uniform(0.3, 1.7))
                worker.kill()
                worker.start()
                self._kills += 1

    def _letters_to_put_back(self) -> dict[str, int]:
        """Store away what stays for good; of each dead-letter queue, how many letters are left to put back."""
        left = {}
        for name in _DEAD:
            if count := self._archive.take(self._sqs, self._urls[name]):
                left[name] = count
        return left

    def _redrive(self, name: str, *, is_killed: bool) -> int:
        retries = self._urls[f"{name.partition('-')[0]}-retries"]
        command = [
            sys.executable,
            "-m",
            "streamkit.cli",
            "redrive",
            self._urls[name],
            "--to-queue",
            retries,
            "--yes",
            "--json",
        ]
        command += [
            "--endpoint-url",
            self._endpoints[1],
            "--state",
            str(self._folder / f"redrive-{name}.sqlite"),
        ]
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(ROOT),
        }
        if is_killed:
            # What it held is unseen so long; the next one waits for it.
            hold = ["--hold", "6"]
            with subprocess.Popen(
                command + hold, cwd=self._folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(self._drawn.uniform(0.8, 2.5))
                process.kill()
                self._kills += 1
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or not done.stdout:
            raise RuntimeError(f"streamkit redrive of {name} ended with {done.returncode}: {done.stderr[-2000:]}")
        put_back: int = json.loads(done.stdout)["put_back"]
        return put_back

    # Looking.

    def _wait_until_idle(self, what: str) -> bool:
        """Until nothing is left to do, or nothing happens any more. Whether nothing is left."""
        journal = self._folder / "journal"
        size, since, idle = -1, time.monotonic(), 0
        left: dict[str, Any] = {}
        while True:
            self._show(left)
            left = self._left()
            idle = 0 if left else idle + 1
            if idle >= 2:
                return True
            now = time.monotonic()
            if journal.stat().st_size != size:
                size, since = journal.stat().st_size, now
            patience = self._options.ledger_patience if left.keys() == {"ids in the ledger"} else _STUCK_AFTER
            if now - since > patience:
                if left.keys() == {"ids in the ledger"}:
                    # What is left there is told at the end.
                    return True
                self._stuck.append(f"{what} is stuck: {left}")
                return False
            time.sleep(0.5)

    def _left(self) -> dict[str, Any]:
        """What is not done yet, by what it is."""
        left: dict[str, Any] = {}
        for stream in STREAMS:
            leases = self._checkpoints.leases(processor_name(stream), stream_name(stream))
            for shard, last in self._producer.last(stream).items():
                lease = leases.get(shard)
                reached = 0 if lease is None else lease.checkpoint or 0
                if reached < last:
                    left[f"{stream} {shard}"] = f"at {reached} of {last}"
        left |= {name: count for name, count in self._held().items() if count and name not in _DEAD}
        if not left:
            parked = self._ledger.parked(processor_name("park"), deadline=time.monotonic() + 60)
            if parked:
                left["ids in the ledger"] = sum(len(key.pending) for key in parked.values())
        return left

    def _held(self) -> dict[str, int]:
        held = {}
        for name, url in self._urls.items():
            attributes = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            held[name] = sum(int(value) for key, value in attributes.items() if key.startswith("ApproximateNumberOf"))
        return held

    def _show(self, left: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if now - self._said_at < 2.0:
            return
        self._said_at = now
        for worker in self._workers:
            if worker.has_failed():
                raise RuntimeError(f"the {worker.name} has died:\n{worker.last_lines()}")
        seconds = now - self._began
        sizes = ", ".join(f"{name} {samples[-1]:.0f} MB" for name, samples in self._sampler.samples.items() if samples)
        entries = (self._folder / "journal").stat().st_size // 16
        happened = (
            sum(times for times, _ in counted(self._folder / "faults").values()) if int(seconds) % 60 < 3 else None
        )
        faults = f", {happened:,} faults of calls" if happened is not None else ""
        self._say(
            f"{seconds:6.0f} s  {self._producer.records:,} put ({self._producer.records / seconds:,.0f}/s), "
            f"{entries:,} entries in the journal; {sizes}{faults}{f'; left: {left}' if left else ''}"
        )

    def _memory(self) -> tuple[dict[str, tuple[float, float, float]], list[str]]:
        figures, grown = {}, []
        for name, samples in self._sampler.samples.items():
            if not samples:
                continue
            figures[name] = (samples[len(samples) // 5], samples[-1], max(samples))
            why = growth(samples, slack=self._options.slack)
            # The servers keep what they are given: that is their work here.
            if why and name in WORKERS:
                grown.append(f"the memory of the {name} is not flat: {why}")
        return figures, grown

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._sampler.stop()
        self._archive.close()
        self._checkpoints.close()
        self._ledger.close()
        self._faults.close()


def _server_of(watcher: int) -> int:
    """The server behind its watcher."""
    try:
        return int(Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()[0])
    except (OSError, IndexError):
        return watcher
