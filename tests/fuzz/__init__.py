"""Coverage-guided fuzzing of all that reads what comes from outside; see ``targets``, and docs/hostile-input.md."""
