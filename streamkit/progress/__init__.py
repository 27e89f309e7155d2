"""Where it is kept what a redelivered batch need not repeat. Import a store from its own module, as
``from streamkit.progress.dynamodb import DynamoDbProgress``.
"""
