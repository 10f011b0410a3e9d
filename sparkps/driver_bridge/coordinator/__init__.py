"""The coordinator: its process, and the tier, groups and leases that it keeps. Imports nothing of the driver's or the workers' side."""
