"""Rows of a DataFrame as a rank keeps them: read, checked, numbered and stored."""
