"""What a tier needs of the SparkSession that it stands beside."""

from __future__ import annotations

from typing import Any

from sparkps.errors import ConfigError


def running_context(spark: Any) -> Any:
    """The SparkContext of a session.

    Raises
    ------
    ConfigError
        It is no session with a SparkContext of its own, or it was stopped.
    """
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise ConfigError("A PSContext needs a SparkSession with a SparkContext. Spark Connect is not supported yet.")
    context = getattr(spark, "sparkContext", None)
    if context is None:
        raise ConfigError(
            f"A PSContext needs a SparkSession: `PSContext(SparkSession.builder.getOrCreate())`. Got {spark!r} instead."
        )
    if has_stopped(context):
        raise ConfigError("A PSContext needs a running SparkSession. This one was stopped: make a new one.")
    return context


def has_stopped(context: Any) -> bool:
    """Whether a SparkContext runs no more: pyspark itself knows by this attribute."""
    return getattr(context, "_jsc", None) is None


__all__ = ["has_stopped", "running_context"]
