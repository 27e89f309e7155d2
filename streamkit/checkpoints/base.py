"""The seam to what keeps checkpoints: one number for each shard that a reader has come through."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["CheckpointStore"]


class CheckpointStore(ABC):
    """A checkpoint is the last sequence number at and below which every record is settled or discarded.

    It is monotonic: saving a lower number than the store holds changes nothing, so a reader that was overtaken can't move it
    back. Numbers compare as integers. One reader of a shard at a time: leases are not built yet.
    """

    @abstractmethod
    def get(self, reader: str, stream: str, shard_id: str) -> int | None:
        """The checkpoint of ``reader`` (its name) in a shard; None where it has none."""

    @abstractmethod
    def save(self, reader: str, stream: str, shard_id: str, sequence_number: int) -> None:
        """Move the checkpoint up to ``sequence_number``. It is durable when this returns."""

    def close(self) -> None:
        """Release files and connections."""
        return
