"""One shard for the Kinesis Client Library's MultiLangDaemon, which starts a process of this for each of its shards."""
