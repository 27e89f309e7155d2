"""The results as a picture: throttled reads, and the age of records, against the number of subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from .measure import Result

__all__ = ["draw"]

_COLOURS = {"alone": "#b5452c", "in process": "#2b6f9e", "onward": "#4d8a3d"}
_LABELS = {
    "alone": "each reads for itself",
    "in process": "fan-out in process",
    "onward": "fan-out onward, by SNS and SQS",
}


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture, as SVG. The same results give the same file."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "streamkit", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
    for way, colour in _COLOURS.items():
        of_way = [result for result in results if result.way == way]
        counts = [result.subscribers for result in of_way]
        label = _LABELS[way]
        left.plot(counts, [one.throttled_reads / one.seconds for one in of_way], "o-", color=colour, label=label)
        right.plot(counts, [one.p99 for one in of_way], "o-", color=colour)
        right.plot(counts, [one.p50 for one in of_way], "o:", color=colour, markersize=4)
    left.set(xlabel="subscribers", ylabel="throttled reads a second", title="Reads that the shards refused")
    right.set(
        xlabel="subscribers", ylabel="seconds", title="Age of a record when a subscriber has done it", yscale="log"
    )
    right.axhline(2, color="#888888", linewidth=0.8)
    right.annotate("2 s", (1, 2), xytext=(0, 3), textcoords="offset points", color="#666666")
    ticks = sorted({result.subscribers for result in results})
    for axes in left, right:
        axes.set_xticks(ticks)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    for line, part in ("-", "p99"), (":", "p50"):
        right.plot([], [], line, color="#666666", label=part)
    right.legend(frameon=False, fontsize=8, loc="upper left")
    right.yaxis.set_major_formatter("{x:g}")
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
