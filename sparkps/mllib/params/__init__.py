"""Params of estimators and models."""
