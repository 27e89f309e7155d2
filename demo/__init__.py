"""A hundred thousand real flights and 3,376 airports, eight broken events and a reader that is killed: ``python -m demo``."""
