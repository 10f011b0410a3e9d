"""Factorization machines: models of pairs of features, each feature with a vector of factors."""
