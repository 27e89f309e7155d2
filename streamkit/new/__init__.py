"""What ``streamkit new`` writes: the texts are in ``files``, ``project`` fills in the names."""
