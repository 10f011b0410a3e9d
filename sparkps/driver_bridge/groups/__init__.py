"""Worker groups: the driver's side of one, and its ranks."""
