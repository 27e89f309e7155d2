"""Small values that several invocations change, one after another. Import a store from its own module, as
``from streamkit.cells.dynamodb import DynamoDbCells``.
"""
