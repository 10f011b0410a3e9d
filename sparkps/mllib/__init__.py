"""Estimators with the names, Params and results of pyspark.ml, trained on the tier."""
