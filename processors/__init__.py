"""Functions to deploy as they are, set up by environment variables; or to subclass. docs/processors.md shows both."""
