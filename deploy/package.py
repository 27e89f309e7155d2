"""python -m deploy.package [NAME ...]

Builds the packages of the functions in processors/, for both architectures, into ``dist``.

Prints each package's size beside what it may have, and ends with 1 where one has more.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamkit.packaging import ARCHITECTURES, Package, PackagingError, build

from .runtime import RUNTIME

__all__ = ["DIST", "FUNCTIONS", "Function", "packaged"]

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
_MB = 1_000_000


@dataclass(frozen=True)
class Function:
    """A function of processors/, what it needs beside boto3, and the most bytes that its package may have."""

    module: str
    lock: str
    most: int

    @property
    def handler(self) -> str:
        return f"{self.module}.handler"


FUNCTIONS = {
    "bigquery": Function("processors.bigquery", "bigquery", 16 * _MB),
    # 11.5 MB of it are gRPC, and the OpenSSL that google-auth brings. Without bytecode it would have 15.8 MB, and start slower.
    "bigquery-exactly-once": Function("processors.bigquery_exactly_once", "bigquery-exactly-once", 20 * _MB),
    "cloudsearch": Function("processors.cloudsearch", "core", 5 * _MB),
    "dead-letters": Function("processors.dead_letters", "core", 5 * _MB),
    "fanout": Function("processors.fanout", "core", 5 * _MB),
}
#: What packages carry for other uses than ours.
_LEFT_OUT = ("google/cloud/bigquery_storage_v1alpha", "google/cloud/bigquery_storage_v1beta*", "cffi", "cffi-*")


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
    )


def main(names: list[str]) -> int:
    unknown = set(names) - FUNCTIONS.keys()
    if unknown:
        print(f"there is no function {', '.join(sorted(unknown))}: they are {', '.join(FUNCTIONS)}", file=sys.stderr)
        return 2
    RUNTIME.set_up(lambda _: None)
    wanted = [(name, architecture) for name in names or FUNCTIONS for architecture in ARCHITECTURES]
    too_large = 0
    print(f"{'package':34} {'zipped':>9} {'at most':>9} {'unzipped':>9}  sha256")
    with ThreadPoolExecutor(2) as pool:
        for (name, _), package in zip(wanted, pool.map(lambda one: packaged(*one), wanted), strict=True):
            most = FUNCTIONS[name].most
            too_large += package.size > most
            print(
                f"{package.path.relative_to(ROOT)!s:34} {package.size / _MB:6.2f} MB {most / _MB:6.0f} MB "
                f"{package.unzipped / _MB:6.2f} MB  {package.sha256[:16]}{'  TOO LARGE' if package.size > most else ''}",
                flush=True,
            )
    return 1 if too_large else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PackagingError as error:
        sys.exit(str(error))
