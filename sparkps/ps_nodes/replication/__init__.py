"""Copies of buckets on other nodes: what a primary ships, what a replica does with it, and how buckets change hands."""
