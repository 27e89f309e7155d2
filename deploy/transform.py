"""python deploy/transform.py TEMPLATE [NAME=VALUE ...]: the CloudFormation template that a SAM template becomes, in JSON.

It is what AWS deploys, so it is what has to be looked at. Runs in the environment of the SAM CLI (validate.py), by AWS's own
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


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as template:
        values = dict(one.split("=", 1) for one in sys.argv[2:])
        json.dump(transformed(template.read(), values), sys.stdout, indent=2)
