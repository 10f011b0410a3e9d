"""Multilayer perceptrons as pyspark.ml has them: sigmoid layers between features and a softmax, without torch."""
