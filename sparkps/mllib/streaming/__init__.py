"""Models that learn from a stream of rows while they serve."""
