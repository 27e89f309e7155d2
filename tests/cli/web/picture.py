"""The picture of docs/console.md: the real console over a shop on moto, in the real browser.

python -m tests.cli.web.picture docs/console.png
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from ..process import ENVIRONMENT, command, connect
from .shop import Shop

_LOCALSTACK = Path(__file__).resolve().parents[3] / "localstack"
# Seconds of a shop's life that the curves show.
_LIFE = 100.0
_FUNCTION = """
import time
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    name = "orders"

    def process(self, record):
        time.sleep(0.06)

handler = lambda_handler(Orders)
"""


def main(path: str) -> None:
    """Take the picture; about two minutes."""
    sys.path.insert(0, str(_LOCALSTACK))
    from local_moto import moto_in_process

    with moto_in_process() as endpoint, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "orders.py").write_text(_FUNCTION)
        kinesis, sqs, dynamodb = (connect(service, endpoint) for service in ("kinesis", "sqs", "dynamodb"))
        shop = Shop(kinesis, sqs, dynamodb, "eu")
        shop.fail(*(f'{{"order": {n}}}' for n in range(14)))
        shop.park("customer-4", "customer-17", "customer-23")
        run = [
            "run",
            "orders:handler",
            "--stream",
            shop.stream,
            "--status",
            "run.json",
            "--batch-size",
            "40",
            "--plain",
        ]
        watched = ["--name", "orders", "--ledger", shop.ledger, "--run", "run.json", "--sample", "4"]
        started = [
            _start(folder, *run, "--endpoint-url", endpoint),
            _start(folder, "console", *shop.arguments(), *watched, "--endpoint-url", endpoint),
        ]
        try:
            _take(path, started[1], shop)
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _take(path: str, console: subprocess.Popen[str], shop: Shop) -> None:
    from setup_browser import find

    assert console.stdout is not None
    url = console.stdout.readline().strip()
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 700}, reduced_motion="reduce")
        page.goto(url)
        ends_at, n = time.monotonic() + _LIFE, 0
        while time.monotonic() < ends_at:
            shop.put(4 + n % 9 * 2)
            n += 1
            time.sleep(0.7)
        page.get_by_text("1 batch of").first.wait_for()
        page.screenshot(path=path, full_page=True)
        browser.close()


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


if __name__ == "__main__":
    main(sys.argv[1])
