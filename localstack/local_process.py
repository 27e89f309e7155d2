"""A server as a child process: started on free loopback ports, waited for, stopped, and never left behind.

    def command(port):
        return [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]

    with running("moto", command, answers("/moto-api/")) as moto:
        print(moto.endpoint)

Between this process and the server stands a watcher (this file, run as a script) that leads their process group. It
sees by its parent's id when this process dies, by SIGKILL too, and then ends the server. Linux's PR_SET_PDEATHSIG would
do that without a process more, but only on Linux, and it fires when the *thread* that started the server ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOOPBACK", "Running", "ServerError", "answers", "running"]

LOOPBACK = "127.0.0.1"
# Below what systems give to those who ask for any port (32768 and up on Linux, 49152 on macOS): between the choice of a port and
# its server's listening at it, nobody is given it.
_PORTS = range(20_000, 32_768)
Ready = Callable[["Running"], bool]


class ServerError(RuntimeError):
    """A server did not start; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class Running:
    """A started server. ``pid`` leads the process group of the server and its watcher: ``os.killpg(pid, ...)``."""

    name: str
    ports: tuple[int, ...]
    pid: int
    #: A folder of this server's own, with its log; it is removed with the server.
    folder: Path

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"


def answers(path: str = "/") -> Ready:
    """Ready when the first port answers ``GET path`` with any status below 500."""
    # Not for the watchers, for which it is most of their start.
    import http.client

    def ready(server: Running) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


@contextlib.contextmanager
def running(
    name: str,
    command: Callable[..., Sequence[str]],
    ready: Ready,
    *,
    ports: Sequence[int] = (0,),
    env: Mapping[str, str] | None = None,
    start_within: float = 180.0,  # What takes five seconds takes a minute where all cores are busy with other work.
    stop_within: float = 10.0,
) -> Iterator[Running]:
    """Run ``command(*ports)`` until the block ends, in a folder of its own; enter the block once ``ready`` is true.

    A port of 0 stands for a free one that this function gives to no other server meanwhile. One that is taken all the same is
    found by its server's end: a server that ends before it is ready is started again on other ports, three times in all. ``env``
    is added to this process's environment. Times are in seconds; past ``stop_within`` SIGTERM is followed by SIGKILL.

    Raises ServerError when the server ends, or is not ready within ``start_within``. What the block raises after the server has
    ended by itself gets a note that says so, with the end of the server's log.
    """
    tries = 3 if 0 in ports else 1
    until = time.monotonic() + start_within
    while True:
        tries -= 1
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        held = contextlib.ExitStack()
        try:
            chosen = tuple(port or _free(held) for port in ports)
            process = _start(command(*chosen), folder, env, stop_within)
            try:
                server = Running(name, chosen, process.pid, folder)
                problem = _wait(process, server, ready, until)
                if problem is None:
                    try:
                        yield server
                    except BaseException as error:
                        if process.poll() is not None:
                            error.add_note(f"{name} had ended with code {process.returncode}:\n{_tail(server.log)}")
                        raise
                    return
                if tries == 0 or process.poll() is None:
                    raise ServerError(f"{name} {problem}; its log ends:\n{_tail(server.log)}")
            finally:
                _stop(process, stop_within)
        finally:
            held.close()
            shutil.rmtree(folder, ignore_errors=True)


def _free(held: contextlib.ExitStack) -> int:
    """A port that nobody listens at, and no server of another call has, until ``held`` is closed.

    Without that a server that is not listening yet seems ready when another, given the same port, answers in its place; and it is
    gone when that one stops. The UDP port of the same number is the lock: whatever way its process ends, it is free again.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lock.bind((LOOPBACK, port))
            with socket.socket() as listener:
                listener.bind((LOOPBACK, port))
        except OSError:
            lock.close()
            continue
        held.enter_context(lock)
        return port
    raise ServerError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free; stop what listens there")


def _start(
    command: Sequence[str], folder: Path, env: Mapping[str, str] | None, stop_within: float
) -> subprocess.Popen[bytes]:
    watcher = [sys.executable, "-I", str(Path(__file__).resolve()), str(os.getpid()), str(stop_within), str(folder)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [*watcher, *command],
            cwd=folder,
            # What it imports is compiled once: its packages come without bytecode (local_environment.py).
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Its own group, and Ctrl-C is this process's to handle.
        )


def _wait(process: subprocess.Popen[bytes], server: Running, ready: Ready, until: float) -> str | None:
    """None once the server is ready, else what went wrong."""
    while process.poll() is None:
        # Alive after it answered, too: the answer may be another server's, which has taken the port.
        if ready(server) and process.poll() is None:
            return None
        if time.monotonic() > until:
            return "was not ready in time"
        time.sleep(0.05)
    return f"ended with code {process.returncode} before it was ready"


def _stop(process: subprocess.Popen[bytes], within: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)  # One that is paused could not end.
        process.terminate()
    try:
        process.wait(within + 5)  # The watcher keeps the time limit, and ends after the server.
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _watch(parent: int, stop_within: float, folder: str, command: Sequence[str]) -> int:
    """Run ``command`` until it ends, or SIGTERM comes, or the process that started this one is gone."""
    told: list[int] = []
    waking, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server = subprocess.Popen(command)
    while not told and os.getppid() == parent:
        if server.poll() is not None:
            return server.returncode
        # Until a signal comes: looking for the server's end itself took half a hundredth of a core for each server.
        if select.select([waking], [], [], 0.1)[0]:
            waking.recv(64)
    server.terminate()
    try:
        server.wait(stop_within)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    if os.getppid() != parent:
        shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # What the server may have left behind, and this process.
    return 0


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4:]))
