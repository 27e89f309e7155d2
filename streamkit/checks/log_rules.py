"""Where Lambda drops what the function, or Lambda itself, writes to the log."""

from __future__ import annotations

from .deployment import Function, Setting
from .report import Subject
from .unknown import is_known

__all__ = ["check_log"]

#: From the most to the least that is kept.
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_SYSTEM_LEVELS = ("DEBUG", "INFO", "WARN")
#: Whose metrics are no lines of the log.
_UNPRINTED = ("off", "otlp")


def check_log(subject: Subject) -> None:
    """Every rule about levels, which Lambda knows with the format JSON alone."""
    logging, report = subject.deployment.function.logging, subject.report
    if not (logging.level.is_set or logging.system_level.is_set) or not report.is_known(logging.format, "LogFormat"):
        return
    if logging.format.text() != "JSON":
        return
    if _is_level(logging.level, "ApplicationLogLevel", _LEVELS, subject):
        _own_lines(subject)
    if _is_level(logging.system_level, "SystemLogLevel", _SYSTEM_LEVELS, subject):
        _lines_of_lambda(subject)


def _is_level(setting: Setting, name: str, levels: tuple[str, ...], subject: Subject) -> bool:
    if not setting.is_set or not subject.report.is_known(setting, name):
        return False
    if setting.text() in levels:
        return True
    subject.report.error(
        setting.where, f"{name} is {setting.value!r}, which AWS does not take: write one of {', '.join(levels)}"
    )
    return False


def _own_lines(subject: Subject) -> None:
    """streamkit logs a record that failed as an ERROR, what it advises and what is late as a WARNING, and prints its metrics, to
    which Lambda gives the level INFO.
    """
    function, report = subject.deployment.function, subject.report
    setting = function.logging.level
    level = _LEVELS.index(setting.text())
    prints = _prints_metrics(function)
    metrics, warnings, errors = level > _LEVELS.index("INFO"), level > _LEVELS.index("WARN"), setting.text() == "FATAL"
    lost = []
    if errors:
        lost.append("the lines of records that failed, and why (ERROR)")
    if warnings:
        lost.append(
            "streamkit's warnings, as that a record which can never succeed has no dead letters to go to (WARN)"
        )
    if metrics and prints:
        lost.append(
            "the lines of metrics (printed, which is INFO), so that no metric arrives and no alarm on one is raised"
        )
    elif metrics and prints is None:
        variable = function.environment["STREAMKIT_METRICS"]
        report.not_checked(
            setting.where, f"whether metrics are printed, which {setting.text()} drops: STREAMKIT_METRICS is {variable}"
        )
    if not lost:
        return
    kept = "" if errors else " Lines of records that failed are kept."
    advice = "Write ApplicationLogLevel: INFO" + (
        ", or STREAMKIT_METRICS: otlp or off in the Environment" if prints and not errors else ""
    )
    message = f"ApplicationLogLevel is {setting.text()}: Lambda drops {'; '.join(lost)}.{kept} {advice}"
    if errors or (metrics and prints):
        report.error(setting.where, message)
    else:
        report.warning(setting.where, message)


def _prints_metrics(function: Function) -> bool | None:
    """On Lambda they are printed unless the environment says otherwise; None where it is not known what it says."""
    text = function.environment.get("STREAMKIT_METRICS", "")
    return text not in _UNPRINTED if is_known(text) else None


def _lines_of_lambda(subject: Subject) -> None:
    setting = subject.deployment.function.logging.system_level
    if setting.text() == "WARN":
        subject.report.note(
            setting.where,
            "SystemLogLevel is WARN: Lambda writes no line of an invocation that ended well (its start, its time and memory), "
            "and a metric filter on them counts nothing. Those of one that failed or timed out are kept, and so are streamkit's "
            "own lines",
        )
