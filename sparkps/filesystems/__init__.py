"""File systems by URL, for Python processes: `opening` is the way in."""
