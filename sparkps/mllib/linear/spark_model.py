"""Models of pyspark.ml with our coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparkps.mllib.coefficients import LocalCoefficients

if TYPE_CHECKING:
    from sparkps.mllib.linear.model import LinearModel


def spark_model(model: LinearModel, of: type[Any], coefficients: Callable[[], Any], *more: Any) -> Any:
    """The same model of pyspark.ml, with the Params that are set.

    Parameters
    ----------
    model : LinearModel
    of : type
        Class of pyspark.ml, of the same name in the JVM, which is made of uid, coefficients and `more`.
    coefficients : callable
        Makes the matrix, or vector, of coefficients.
    *more
        Vectors of pyspark.ml, or numbers.

    Raises
    ------
    InvalidInput
        There are more coefficients than a vector can have.
    """
    from pyspark.ml.common import _py2java
    from pyspark.ml.wrapper import JavaParams
    from pyspark.sql import SparkSession

    context = SparkSession.builder.getOrCreate().sparkContext
    held = model.coefficients_
    first = held.in_jvm(context, coefficients) if isinstance(held, LocalCoefficients) else _py2java(context, coefficients())
    rest = [_py2java(context, each) for each in more]
    name = f"{of.__module__.replace('pyspark', 'org.apache.spark', 1)}.{of.__name__}"
    made = of(JavaParams._new_java_obj(name, model.uid, first, *rest))
    for param in made.params:
        if model.hasParam(param.name) and model.isSet(param.name) and param.name not in ("solver",):
            made.set(param, model.getOrDefault(param.name))
    made._transfer_params_to_java()
    return made


__all__ = ["spark_model"]
