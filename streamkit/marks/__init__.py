"""Where ``streamkit.idempotency`` marks what is done. Import a store from its own module, as
``from streamkit.marks.dynamodb import DynamoDbMarks``.
"""
