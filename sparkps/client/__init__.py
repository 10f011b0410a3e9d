"""The client side of the tier: sessions, table handles, key sets, futures. Runs in executors and in the driver."""
