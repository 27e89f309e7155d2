"""Where it is kept what a sink is about to write, so that a crash leaves no doubt. Import a store from its own module, as
``from streamkit.plans.dynamodb import DynamoDbPlans``.
"""
