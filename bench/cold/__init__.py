"""Two functions as a fresh process runs them, alike but for the framework. Each answers one event and prints what it did."""
