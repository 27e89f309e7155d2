"""LocalStack on a machine without Docker, in LocalStack's own environment: local_localstack.py starts it."""
