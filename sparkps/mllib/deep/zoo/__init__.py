"""Known architectures, each from its paper."""
