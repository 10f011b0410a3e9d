"""Solvers: how a model is found. `lbfgs` and `linesearch` are pure; the others run on the tier."""
