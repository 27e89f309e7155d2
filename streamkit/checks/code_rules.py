"""Where a function's zip was built for another Python or another architecture than the function has."""

from __future__ import annotations

import re

from .deployment import PackageFacts, Setting
from .report import Subject

__all__ = ["check_code"]

_RUNTIME = re.compile(r"python(3\.\d+)")
_DEFAULT_ARCHITECTURE = "x86_64"


def check_code(subject: Subject) -> None:
    """Every rule about the zip, where it is here."""
    package, function, report = subject.deployment.package, subject.deployment.function, subject.report
    if package is None:
        return
    knows_both = report.is_known(function.architectures, "Architectures")
    if not report.is_known(function.runtime, "Runtime") or not knows_both:
        return
    runtime = _RUNTIME.fullmatch(function.runtime.text())
    if runtime is None:
        return
    architecture = _architecture(function.architectures)
    is_wrong = _extensions(package, runtime[1], architecture, subject)
    if package.bytecode and runtime[1] not in package.bytecode:
        is_wrong = True
        version, name = next(iter(package.bytecode.items()))
        _tell_version(f"bytecode without its source ({name})", version, package, subject)
    if not is_wrong and package.cache and runtime[1] not in package.cache:
        version, name = next(iter(package.cache.items()))
        report.warning(
            function.runtime.where,
            f"Runtime is {function.runtime.text()}, and the bytecode of {package.path} is Python {version}'s ({name}): each cold "
            f"start compiles all that it imports. Write Runtime: python{version}, or build it with --python python{runtime[1]}",
        )


def _architecture(setting: Setting) -> str:
    listed = setting.value if isinstance(setting.value, list) else [setting.value]
    return str(listed[0]) if listed and listed[0] else _DEFAULT_ARCHITECTURE


def _extensions(package: PackageFacts, python: str, architecture: str, subject: Subject) -> bool:
    """Whether an extension module can't be imported. Of one that is there for several, one variant has to fit."""
    others: tuple[str, str] | None = None
    versions: tuple[str, str] | None = None
    for variants in package.extensions.values():
        of_python = [one for one in variants if one[0] in ("", python)]
        if not of_python:
            versions = versions or (variants[0][0], variants[0][2])
        elif not any(built_for in ("", architecture) for _, built_for, _ in of_python):
            others = others or (of_python[0][1], of_python[0][2])
    if others is not None:
        _tell_architecture(*others, architecture, package, subject)
    if versions is not None:
        _tell_version(f"a compiled module ({versions[1]})", versions[0], package, subject)
    return others is not None or versions is not None


def _tell_architecture(built_for: str, name: str, wanted: str, package: PackageFacts, subject: Subject) -> None:
    setting = subject.deployment.function.architectures
    default = "" if setting.is_set else ", Lambda's default"
    advice = f"Build it with --architecture {wanted}"
    if built_for not in ("macOS", "Windows"):
        advice = f"Write Architectures: [{built_for}], or build it with --architecture {wanted}"
    subject.report.error(
        setting.where,
        f"Architectures is {wanted}{default}, and {package.path} has a compiled module ({name}) for {built_for}: it can't be "
        f"imported, and no record is processed. {advice}",
    )


def _tell_version(what: str, version: str, package: PackageFacts, subject: Subject) -> None:
    setting = subject.deployment.function.runtime
    subject.report.error(
        setting.where,
        f"Runtime is {setting.text()}, and {package.path} has {what} for Python {version}: it can't be imported, and no record "
        f"is processed. Write Runtime: python{version}, or build it with --python {setting.text()}",
    )
