"""python -m localstack_host_mode LIBRARIES

LocalStack, with every port of its own on the loopback address: it listens on all addresses whatever GATEWAY_LISTEN says, and so
does the kinesis-mock that it starts. LIBRARIES is where `lpm install` has put what it downloads; the rest of its files is
below FILESYSTEM_ROOT, where another LocalStack would delete them.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

from twisted.internet import endpoints

from localstack import config  # type: ignore[attr-defined]  # The package, and not this repository's folder.

config.dirs.static_libs = sys.argv[1]
endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
# Below it goes the code of functions, too; the folder is the server's own, and removed with it.
tempfile.tempdir = str(Path.cwd())
os.environ["NODE_OPTIONS"] = f'--require "{Path(__file__).with_name("loopback.cjs")}"'

from localstack.runtime.main import main  # noqa: E402 (it reads what is set above)

main()
