"""The node process: tables, shards, optimizers, server functions, worker-group clocks. Never imports pyspark."""
