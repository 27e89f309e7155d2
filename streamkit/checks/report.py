"""What the rules find, in the order in which they find it; each thing once."""

from __future__ import annotations

from ..finding import Finding
from ..processor import RecordProcessor
from .deployment import Deployment, Setting
from .parts import Part
from .unknown import Unknowns

__all__ = ["Report", "Subject"]


class Report:
    """``unknowns`` tells what stands behind the marks in messages."""

    def __init__(self, unknowns: Unknowns) -> None:
        self._unknowns = unknowns
        self._findings: dict[Finding, None] = {}

    @property
    def findings(self) -> list[Finding]:
        """Errors first, then warnings, then notes."""
        order = ("error", "warning", "note")
        return sorted(self._findings, key=lambda finding: order.index(finding.severity))

    def add(self, finding: Finding) -> None:
        where, message = self._unknowns.shown(finding.where), self._unknowns.shown(finding.message)
        self._findings[Finding(finding.severity, where, message)] = None

    def error(self, where: str, message: str) -> None:
        self.add(Finding("error", where, message))

    def warning(self, where: str, message: str) -> None:
        self.add(Finding("warning", where, message))

    def note(self, where: str, message: str) -> None:
        self.add(Finding("note", where, message))

    def not_checked(self, where: str, what: str) -> None:
        self.note(where, f"not checked: {what}")

    def number(self, setting: Setting, name: str, default: int) -> int | None:
        """The setting's number; None, with a note, where it is not known."""
        number = setting.number(default)
        if number is None:
            self._doubt(setting, name, "a whole number")
        return number

    def within(self, setting: Setting, name: str, lowest: int, highest: int) -> bool:
        """Whether AWS takes the setting's number, with an error where it does not. What is not set or not known may be."""
        number = setting.number(lowest)
        if number is None or not setting.is_set or lowest <= number <= highest:
            return True
        self.error(
            setting.where,
            f"{name} is {number}, which AWS does not take: write a whole number from {lowest:,} to {highest:,}",
        )
        return False

    def flag(self, setting: Setting, name: str, *, default: bool) -> bool | None:
        """The setting's yes or no; None, with a note, where it is not known."""
        flag = setting.flag(default)
        if flag is None:
            self._doubt(setting, name, "true or false")
        return flag

    def is_known(self, setting: Setting, name: str) -> bool:
        """Whether it is known, with a note where it is not."""
        if not setting.is_known:
            self._doubt(setting, name, "")
        return setting.is_known

    def _doubt(self, setting: Setting, name: str, form: str) -> None:
        if setting.is_known:
            self.error(setting.where, f"{name} is {setting.value!r}: write {form}")
            return
        parameters = [
            text[2:-1]
            for text in self._unknowns.behind(str(setting.value))
            if text.startswith("${") and "." not in text
        ]
        hint = f"; give --parameter {parameters[0]}=…" if parameters else ""
        self.not_checked(
            setting.where, f"{name} is {setting.text() or 'put together'}, which the template does not tell{hint}"
        )


class Subject:
    """A function with how it is deployed. ``processor`` is the handler's, ``processors`` are its branches or itself."""

    def __init__(
        self,
        processor: RecordProcessor,
        processors: list[RecordProcessor],
        parts: list[Part],
        deployment: Deployment,
        report: Report,
    ) -> None:
        self.processor = processor
        self.processors = processors
        self.parts = parts
        self.deployment = deployment
        self.report = report

    def parts_in(self, *roles: str) -> list[Part]:
        return [part for part in self.parts if part.role in roles]

    def is_retry_queue(self, arn: str) -> bool:
        from .unknown import is_same

        return any(part.arn and is_same(part.arn, arn) for part in self.parts_in("retry queue"))
