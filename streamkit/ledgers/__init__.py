"""Where it is kept which keys are parked. Import a ledger from its own module, as
``from streamkit.ledgers.dynamodb import DynamoDbLedger``.
"""
