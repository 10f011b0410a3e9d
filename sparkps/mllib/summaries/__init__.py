"""What a fit tells of itself and of rows that its model has scored: histories, metrics and plots, as pyspark.ml's summaries have them."""
