"""Where a reader of its own keeps its positions. Lambda keeps them itself; ``streamkit run`` needs one of these."""
