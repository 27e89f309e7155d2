"""A process that is really stopped while it asks for parameters, as Lambda stops a container between invocations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from ..faults.http_proxy import HttpProxy, hold
from .sources import ssm_client

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys, time
from streamkit.config import Config
from streamkit.config.ssm import SsmParameters
from tests.config.sources import client_for

config = Config(SsmParameters(sys.argv[2], client=client_for("ssm", sys.argv[1], 5.0)), life=4, patience=60, wait=2)
limit = config.integer("limit")
for line in sys.stdin:
    began = time.monotonic()
    print(limit.value, time.monotonic() - began, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be stopped here")
def test_a_process_that_was_stopped_while_it_asked_goes_on_with_what_it_had_and_then_with_what_is_new(
    moto_endpoint: str,
) -> None:
    path, proxy = f"/shop/{uuid.uuid4().hex}", HttpProxy(moto_endpoint)
    with ssm_client(moto_endpoint) as ssm:
        ssm.put_parameter(Name=f"{path}/limit", Value="10", Type="String")
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, proxy.endpoint, path],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None

        def read() -> tuple[int, float]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("read\n")
            child.stdin.flush()
            value, took = child.stdout.readline().split()
            return int(value), float(took)

        try:
            assert read()[0] == 10
            ssm.put_parameter(Name=f"{path}/limit", Value="20", Type="String", Overwrite=True)
            with proxy.failing(hold):
                while len(proxy.seen) < 2:  # It is due at some time.
                    assert read()[0] == 10
                    time.sleep(0.1)
                child.send_signal(signal.SIGSTOP)
                with proxy.gone():
                    time.sleep(1)
            child.send_signal(signal.SIGCONT)

            deadline = time.monotonic() + 30
            reads = [read()]
            while reads[-1][0] != 20 and time.monotonic() < deadline:
                time.sleep(0.1)
                reads.append(read())

            assert {value for value, _ in reads[:-1]} <= {10}
            assert reads[-1][0] == 20
            assert max(took for _, took in reads) < 10, "2 s is what it may wait; the rest is for a busy machine"
        finally:
            child.send_signal(signal.SIGCONT)
            child.stdin.close()
            child.wait(30)
            child.stdout.close()
    proxy.close()
    assert proxy.errors == []
