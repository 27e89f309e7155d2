"""The fault matrix: what each backend does under each fault. Tests check each word of a cell, and docs/faults.md has them.

A new sink, queue or store has no row at first, and ``test_matrix.py`` fails until it has one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec

import streamkit
from streamkit.cells.base import CellStore
from streamkit.checkpoints.base import CheckpointStore
from streamkit.claims.base import ClaimStore
from streamkit.ledgers.base import Ledger
from streamkit.marks.base import MarkStore
from streamkit.plans.base import PlanStore
from streamkit.progress.base import ProgressStore
from streamkit.queues.base import Queue
from streamkit.sinks.base import Sink

__all__ = ["FAULTS", "SEAMS", "Cell", "Fault", "Row", "backends", "choices", "empty_cells", "in_memory", "seams"]

Fault = Literal["slow", "refusing", "throttling", "in-part", "gone", "answer-lost"]

#: Each fault, and what is done to the requests.
FAULTS: Mapping[Fault, str] = {
    "slow": "each request is held until the caller has given up, and takes effect then",
    "refusing": "each request is answered that this caller has no permission",
    "throttling": "each request is answered that it is one too many, in the service's own words",
    "in-part": "some of a request's entries are not taken; where a request has one entry only, some requests are not, "
    "or the answer breaks off half-way, or the function that is waited for raises",
    "gone": "nobody listens: connections are refused",
    "answer-lost": "each request takes effect, and the connection ends before the answer, or half-way through it",
}

#: The seams, and what each base is called in the documentation.
SEAMS: Mapping[type[Any], str] = {
    Sink: "sink",
    Queue: "queue",
    ProgressStore: "progress",
    Ledger: "ledger",
    ClaimStore: "claims",
    MarkStore: "marks",
    PlanStore: "plans",
    CellStore: "cells",
    CheckpointStore: "checkpoints",
}


class Cell(msgspec.Struct, frozen=True):
    """What a backend does under one fault. The test of the cell asserts each field."""

    #: What the caller hears: ``unavailable`` (of every write), the name of what is raised, and so on.
    told: str
    #: Whether it is asked again within the call; None: the time is too short to say.
    again: bool | None
    #: What there is when the caller has repeated what it was told has failed: ``once``; ``twice``, where nothing dedupes what
    #: took effect unheard; or all is as it should be, and the repeat was ``harmless``.
    then: Literal["once", "twice", "harmless"]
    #: Why the service can't do this at all. The rest then says what happens at the nearest thing to it.
    impossible: str = ""

    @property
    def words(self) -> str:
        """The cell as the table has it."""
        again = {True: ", asked again", False: ", asked once", None: ""}[self.again]
        then = {"once": "there once", "twice": "may be there twice", "harmless": "a repeat is harmless"}[self.then]
        said = f"{self.told}{again}; {then}"
        return f"(can't happen: {self.impossible}) {said}" if self.impossible else said


class Row(ABC):
    """One backend, or one of its manners: a FIFO queue is a row of its own."""

    backend: ClassVar[type[Any]]
    #: After the class's name, where it has several rows.
    manner: ClassVar[str] = ""
    #: What it speaks to in the tests.
    service: ClassVar[str]
    #: What the manner is made with, where that is an option of the class.
    options: ClassVar[Mapping[str, Any]] = {}
    cells: ClassVar[Mapping[Fault, Cell]]

    @classmethod
    def name(cls) -> str:
        return cls.backend.__name__ + (f"-{cls.manner}" if cls.manner else "")

    @abstractmethod
    def check(self, fault: Fault, cell: Cell) -> None:
        """Bring the fault about, see that it happened, and see that the backend does what the cell says."""


def backends() -> list[type[Any]]:
    """Every class of streamkit that can be used as one of the seams, by name."""
    for module in pkgutil.walk_packages(streamkit.__path__, "streamkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {one for seam in SEAMS for one in _below(seam) if one.__module__.startswith("streamkit.")}
    return sorted((one for one in found if not inspect.isabstract(one)), key=lambda one: one.__name__)


def _below(base: type[Any]) -> set[type[Any]]:
    return {base} | {one for direct in base.__subclasses__() for one in _below(direct)}


def seams() -> set[type[Any]]:
    """Every abstract class at the root of a ``base`` module: what a backend can be one of."""
    backends()
    return {one for one in _below(ABC) if inspect.isabstract(one) and ABC in one.__bases__ and _is_base(one.__module__)}


def _is_base(module: str) -> bool:
    return module.startswith("streamkit.") and module.endswith(".base")


def choices(backend: type[Any]) -> dict[str, Any]:
    """The options of a backend that are a choice between ways of working, and each one's default: those of yes or no, and of
    one name among several.
    """
    defaults = inspect.signature(backend).parameters
    return {
        name: defaults[name].default
        for name, kind in get_type_hints(backend.__init__).items()
        if name in defaults and _is_choice(kind)
    }


def _is_choice(kind: Any) -> bool:
    return kind is bool or any(get_origin(one) is Literal for one in (kind, *get_args(kind)))


def in_memory(backend: type[Any]) -> bool:
    """The rule by which a backend has no row: it is a module called ``memory``, or one for tests, and so has no service to fail.

    ``test_matrix.py`` sees that those which it picks open neither a connection nor a file.
    """
    module = backend.__module__
    return module.endswith(".memory") or module.startswith("streamkit.testing.")


def empty_cells(found: Iterable[type[Any]], rows: Sequence[type[Row]]) -> list[str]:
    """The ids of what is missing: of each backend that has a service, and of each row, the faults without a cell."""
    empty = [
        f"{backend.__name__}-{fault}"
        for backend in found
        if not in_memory(backend) and not any(row.backend is backend for row in rows)
        for fault in FAULTS
    ]
    for row in rows:
        empty += [f"{row.name()}-{fault}" for fault in FAULTS if fault not in row.cells]
    return empty
