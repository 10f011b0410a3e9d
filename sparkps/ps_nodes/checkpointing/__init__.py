"""A node's part in checkpoints: clocks that wait for the cut, buckets that are copied and written, and buckets that are loaded."""
