"""Every message: `data` (client <-> node) and `control` (coordinator <-> nodes, driver and workers)."""
