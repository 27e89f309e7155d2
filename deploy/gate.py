"""python3 deploy/gate.py ENVIRONMENT: ends with 1 unless GitHub asks somebody before a deployment to it.

GitHub makes an environment that a workflow names, without any rules, and lets everything through: a gate that nobody has set up
is open. Reads what Actions set (GITHUB_API_URL, GITHUB_REPOSITORY), and GITHUB_TOKEN, which has to be allowed to read actions.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

_SECONDS = 20


def fault_of(environment: dict[str, Any]) -> str:
    """Why an environment, as GitHub describes it, is no gate; empty for one that is."""
    rules = environment.get("protection_rules", [])
    reviewers = [who for rule in rules if rule["type"] == "required_reviewers" for who in rule.get("reviewers", [])]
    if not reviewers:
        return "it has no required reviewers, so nobody is asked"
    if environment.get("deployment_branch_policy") is None:
        return "it takes every branch"
    return ""


def described(name: str) -> dict[str, Any]:
    """What GitHub says of the environment. HTTPError or URLError where it does not."""
    url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/environments/{quote(name, '')}"
    headers = {"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
    with urlopen(Request(url, headers=headers), timeout=_SECONDS) as answer:  # noqa: S310  # GitHub's own, or a test's.
        found: dict[str, Any] = json.load(answer)
        return found


def main(name: str) -> int:
    try:
        fault = fault_of(described(name))
    except HTTPError as error:
        fault = f"GitHub answers {error.code}" + (": there is no such environment" if error.code == 404 else "")
    except (URLError, TimeoutError) as error:
        fault = f"GitHub can't be asked: {error}"
    except KeyError as error:
        fault = f"GitHub can't be asked: {error} is not set"
    if fault:
        print(f"{name} is no gate: {fault}. docs/deploying.md, In CI, has how it is set up", file=sys.stderr)
        return 1
    print(f"somebody is asked before {name} is deployed")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
