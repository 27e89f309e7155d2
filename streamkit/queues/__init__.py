"""What holds records outside the stream. Import a queue from its own module: ``from streamkit.queues.sqs import SqsQueue``."""
