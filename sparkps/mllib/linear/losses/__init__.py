"""Losses of linear models, a module each, found by its name; all that is particular to a loss is in its module."""
