"""A shop on moto whose handlers have really failed, the real command over it, and a real browser."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from ..process import ENVIRONMENT, command, connect
from .shop import Console, Shop

__all__ = ["Start"]

Start = Callable[..., Console]


@pytest.fixture(scope="module")
def dynamodb(moto_endpoint: str) -> Iterator[Any]:
    client = connect("dynamodb", moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def shop(kinesis: Any, sqs: Any, dynamodb: Any) -> Shop:
    """A stream of two shards, a retry queue, dead letters, and a ledger, all with names of their own."""
    return Shop(kinesis, sqs, dynamodb, uuid.uuid4().hex[:12])


@pytest.fixture
def start(tmp_path: Path, moto_endpoint: str) -> Iterator[Start]:
    """Starts ``streamkit console`` with these arguments, in ``tmp_path``; all end with the test."""
    with ExitStack() as stack:

        def started(*arguments: str, endpoint: str = moto_endpoint) -> Console:
            return stack.enter_context(_running(tmp_path, "--endpoint-url", endpoint, *arguments))

        yield started


@pytest.fixture(scope="module")
def console(
    kinesis: Any, sqs: Any, dynamodb: Any, moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """One that the tests of a file share, over a shop with one letter: for those that change nothing. ``dead`` is its queue."""
    shop = Shop(kinesis, sqs, dynamodb, uuid.uuid4().hex[:12])
    shop.fail("secret payload")
    with _running(tmp_path_factory.mktemp("console"), "--endpoint-url", moto_endpoint, *shop.arguments()) as console:
        console.dead = shop.dead
        yield console


@contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[Console]:
    process = subprocess.Popen(
        command("console", *arguments),
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        assert url, process.stderr.read()
        yield Console(process, url)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


# No longer than for the files that want it: its driver has an event loop that runs in the tests' own thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Where there is none its tests are skipped: `make test` installs one first, or says how."""
    from local_environment import SetupError
    from setup_browser import find

    try:
        program = find()
    except SetupError as error:
        pytest.skip(str(error).partition("\n")[0])
    # Chromium's sandbox does not work as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, in which no script may fail and nothing may break the page's policy."""
    context = browser.new_context(viewport={"width": 1180, "height": 820}, reduced_motion="reduce")
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    context.close()
    assert troubles == []
