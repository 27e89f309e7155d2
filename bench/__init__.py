"""Benchmarks of streamkit side by side with its peers: ``python -m bench``, or ``make bench``. See docs/benchmarks.md."""
