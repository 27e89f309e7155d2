"""Logs and metrics out of what subscriptions of CloudWatch Logs deliver: docs/logs.md."""
