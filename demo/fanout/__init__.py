"""1 to 20 subscribers of one stream whose shards have their limits, three ways: ``python -m demo.fanout``."""
