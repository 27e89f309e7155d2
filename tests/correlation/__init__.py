"""Following an event: what is captured, logged and sent on."""
