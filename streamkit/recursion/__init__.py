"""Work that outlives one invocation: it goes on in the next, with a cursor. docs/long-tasks.md.

event ──▶ hop 0 ──{cursor}──▶ hop 1 ──{cursor}──▶ … ──▶ done
          steps until the      the same function,
          time is nearly up    invoked by itself
"""

from __future__ import annotations

from .guard import HopHeld
from .handler import HopsExceeded, LongTaskHandler, NoProgress, long_task_handler
from .task import Done, LongTask

__all__ = ["Done", "HopHeld", "HopsExceeded", "LongTask", "LongTaskHandler", "NoProgress", "long_task_handler"]
