"""python deploy/transform.py: the CloudFormation templates that SAM templates become.

Its input is JSON, a list of templates, each with its path and its parameters' values; its output a list of what they become. That
is what AWS deploys, so it is what has to be looked at. Runs in the environment of the SAM CLI (validate.py), by AWS's own
translator, and asks nobody. Parameters stay parameters; their values count where the translator itself reads them.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

__all__ = ["transformed"]


def transformed(text: str, parameters: dict[str, str], region: str = "us-east-1") -> dict[str, Any]:
    """The template that CloudFormation would have of SAM's ``text``."""
    import boto3
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.yaml_helper import yaml_parse

    logging.getLogger("samtranslator").setLevel(logging.CRITICAL)
    session = boto3.session.Session(region_name=region)
    translator = Translator({}, Parser(), boto_session=session)
    translated: dict[str, Any] = translator.translate(yaml_parse(text), parameter_values=parameters)
    return translated


def main() -> None:
    made = []
    for path, parameters in json.load(sys.stdin):
        try:
            with open(path, encoding="utf-8") as template:
                made.append(transformed(template.read(), parameters))
        except Exception as error:
            error.add_note(f"in {path}")
            raise
    json.dump(made, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
