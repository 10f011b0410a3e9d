"""Checkpoints as files: their format, the manifest that names them, what is sound, kept and removed. Knows no node and no Spark."""
