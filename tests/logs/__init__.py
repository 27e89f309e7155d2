"""Tests of ``streamkit.logs``."""
