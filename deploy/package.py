"""python -m deploy.package [NAME ...]

Builds the packages of the functions in processors/, for both architectures, into ``dist``.

Prints each package's size beside what it may have, and ends with 1 where one has more.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamkit.packaging import ARCHITECTURES, Package, PackagingError, build

from .runtime import RUNTIME

__all__ = ["DIST", "FUNCTIONS", "Function", "digests", "package_all", "packaged"]

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
_MB = 1_000_000
_SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Function:
    """A function of processors/, what it needs beside boto3, and the most bytes that its package may have."""

    module: str
    lock: str
    most: int
    bytecode_only: bool = False

    @property
    def handler(self) -> str:
        return f"{self.module}.handler"


FUNCTIONS = {
    "bigquery": Function("processors.bigquery", "bigquery", 16 * _MB),
    # 11.5 MB of it are gRPC, and the OpenSSL that google-auth brings.
    "bigquery-exactly-once": Function(
        "processors.bigquery_exactly_once", "bigquery-exactly-once", 16 * _MB, bytecode_only=True
    ),
    "cloudsearch": Function("processors.cloudsearch", "core", 5 * _MB),
    "dead-letters": Function("processors.dead_letters", "core", 5 * _MB),
    "fanout": Function("processors.fanout", "core", 5 * _MB),
    # Neo4j's driver, and pytz, which that needs.
    "graph": Function("processors.graph", "graph", 5 * _MB),
    # urllib3 and botocore, which Lambda's runtime brings with boto3, are all that it needs.
    "opensearch": Function("processors.opensearch", "core", 5 * _MB),
    "heartbeat": Function("processors.heartbeat", "core", 5 * _MB),
    "objects": Function("processors.objects", "core", 5 * _MB),
    "backfill": Function("processors.backfill", "core", 5 * _MB),
    "logs": Function("processors.logs", "core", 5 * _MB),
    "log-subscriber": Function("processors.log_subscriber", "core", 5 * _MB),
    "janitor": Function("processors.janitor", "core", 5 * _MB),
    "warmer": Function("processors.warmer", "core", 5 * _MB),
    "sqs-loop": Function("processors.sqs_loop", "core", 5 * _MB),
    "search-api": Function("processors.search_api", "core", 5 * _MB),
}
#: What packages carry for other uses than ours.
_LEFT_OUT = (
    "google/cloud/bigquery_storage_v1alpha",
    "google/cloud/bigquery_storage_v1beta*",
    "cffi",
    "cffi-*",
    "packaging/licenses",
    # It guesses the encoding of an answer that does not say it, which none of ours has to, and does so without them, slower.
    "charset_normalizer/*.so",
    "*__mypyc*.so",
    "**/*.proto",
)


def packaged(name: str, architecture: str, out: Path = DIST) -> Package:
    """Build the package of one function. PackagingError where it can't be."""
    function = FUNCTIONS[name]
    return build(
        [function.module],
        out / f"{name}-{architecture}.zip",
        architecture=architecture,
        root=ROOT,
        requirements=Path(__file__).with_name(f"requirements-{function.lock}.txt"),
        python=str(RUNTIME.program("python")),
        leave_out=_LEFT_OUT,
        bytecode_only=function.bytecode_only,
    )


def package_all(names: Sequence[str] = (), out: Path = DIST, architectures: Iterable[str] = ARCHITECTURES) -> bool:
    """Build packages and print a line for each; whether each has the size that it may have. SHA256SUMS has their digests."""
    RUNTIME.set_up(lambda _: None)
    wanted = [(name, architecture) for name in names or FUNCTIONS for architecture in architectures]
    too_large = 0
    lines = []
    print(f"{'package':34} {'zipped':>9} {'at most':>9} {'unzipped':>9}  sha256")
    with ThreadPoolExecutor(2) as pool:
        for (name, _), package in zip(wanted, pool.map(lambda one: packaged(one[0], one[1], out), wanted), strict=True):
            most = FUNCTIONS[name].most
            too_large += package.size > most
            lines.append(f"{package.sha256}  {package.path.name}\n")
            print(
                f"{package.path.name:34} {package.size / _MB:6.2f} MB {most / _MB:6.0f} MB "
                f"{package.unzipped / _MB:6.2f} MB  {package.sha256[:16]}{'  TOO LARGE' if package.size > most else ''}",
                flush=True,
            )
    if len(lines) == len(FUNCTIONS) * len(ARCHITECTURES):
        (out / _SUMS).write_text("".join(lines))
    return not too_large


def digests(packages: Path) -> dict[str, str]:
    """File → digest, of packages that were built before. PackagingError where one is not what SHA256SUMS says that it was."""
    sums = packages / _SUMS
    if not sums.exists():
        raise PackagingError(f"there is no {_SUMS} in {packages}: these are not packages of `make package`")
    found = {}
    for line in sums.read_text().splitlines():
        digest, name = line.split()
        if hashlib.sha256((packages / name).read_bytes()).hexdigest() != digest:
            raise PackagingError(f"{name} is not what was built: its digest differs from that in {_SUMS}")
        found[name] = digest
    for zipped in sorted(packages.glob("*.zip")):
        if zipped.name not in found:
            raise PackagingError(f"{zipped.name} is not in {_SUMS}: it was not built with the others")
    return found


def main(names: list[str]) -> int:
    unknown = set(names) - FUNCTIONS.keys()
    if unknown:
        print(f"there is no function {', '.join(sorted(unknown))}: they are {', '.join(FUNCTIONS)}", file=sys.stderr)
        return 2
    return 0 if package_all(names) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PackagingError as error:
        sys.exit(str(error))
