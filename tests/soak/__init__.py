"""A million records with faults of every kind, through the whole path and back, and a ledger that has to balance.

docs/soak.md draws what goes through, and has the figures. ``python -m tests.soak --records 50000`` is a smaller one.
"""
