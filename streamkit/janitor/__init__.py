"""Deletes old versions of Lambda functions and layers, and nothing that is used: docs/janitor.md."""
