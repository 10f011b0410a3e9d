"""How the rows of a DataFrame reach the ranks."""
