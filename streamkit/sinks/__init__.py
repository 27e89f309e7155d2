"""Where records are written to. Import a sink from its own module: ``from streamkit.sinks.bigquery import BigQuerySink``."""
