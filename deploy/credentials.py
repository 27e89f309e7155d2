"""python3 deploy/credentials.py: AWS's variables, as a profile's ``credential_process`` prints them (`./build.sh profile`)."""

from __future__ import annotations

import json
import os
import sys

_NAMES = {
    "AccessKeyId": "AWS_ACCESS_KEY_ID",
    "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "SessionToken": "AWS_SESSION_TOKEN",
}


def main() -> int:
    missing = [variable for variable in _NAMES.values() if not os.environ.get(variable)]
    if missing:
        print(f"{', '.join(missing)} is not set: nobody has signed in", file=sys.stderr)
        return 1
    print(json.dumps({"Version": 1, **{key: os.environ[variable] for key, variable in _NAMES.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
