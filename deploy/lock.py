"""python -m deploy.lock

Writes the lock files of the functions' packages anew: the newest versions that ``requirements-*.in`` allow, with hashes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["lock"]

_FOLDER = Path(__file__).parent
#: What botocore needs too, so that Lambda's runtime brings it with boto3; and what their packages name and no function imports.
_NOT_IN_PACKAGES = ("python-dateutil", "six", "urllib3", "jmespath", "pyasn1", "pyasn1-modules", "pycparser")
#: google-cloud-bigquery names gRPC, which only the Storage Write API's client imports.
_GRPC = ("grpcio", "grpcio-status")


def lock(name: str) -> None:
    """Write requirements-``name``.txt from requirements-``name``.in. CalledProcessError where no versions fit together."""
    left_out = _NOT_IN_PACKAGES if name.endswith("exactly-once") else (*_NOT_IN_PACKAGES, *_GRPC)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--generate-hashes"]
    # For both architectures at once: the hashes are of all wheels.
    command += ["--python-version=3.13", "--python-platform=linux", "--only-binary=:all:"]
    # No host of an index in the file, and no folder of this machine.
    command += ["--no-annotate", "--no-emit-index-url", *(f"--no-emit-package={package}" for package in left_out)]
    subprocess.run(
        [*command, f"requirements-{name}.in", f"--output-file=requirements-{name}.txt"],
        cwd=_FOLDER,
        env={**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make lock"},
        check=True,
    )


def main() -> int:
    for path in sorted(_FOLDER.glob("requirements-*.in")):
        name = path.stem.removeprefix("requirements-")
        try:
            lock(name)
        except subprocess.CalledProcessError as error:
            return int(error.returncode)
        print(f"deploy/requirements-{name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
