"""What linear models share: losses, fits, scoring and files."""
