"""Coverage-guided fuzzing of all that reads what comes from outside; see ``targets`` for what, and docs/hostile-input.md for why."""
