"""Models of pyspark.ml with our coefficients."""

from __future__ import annotations

from typing import Any

from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.linear.binary import BinaryClassificationModel


def spark_model(model: BinaryClassificationModel, of: type[Any], *more: Any) -> Any:
    """The same model of pyspark.ml, with the Params that are set.

    Parameters
    ----------
    model : BinaryClassificationModel
    of : type
        Class of pyspark.ml, of the same name in the JVM, which is made of uid, matrix of coefficients, vector of intercepts,
        and `more`.
    """
    from pyspark.ml.common import _py2java
    from pyspark.ml.wrapper import JavaParams
    from pyspark.sql import SparkSession

    context = SparkSession.builder.getOrCreate().sparkContext
    held = model.coefficients_
    if isinstance(held, LocalCoefficients):
        matrix = held.in_jvm(context, lambda: model.coefficientMatrix)
    else:
        matrix = _py2java(context, model.coefficientMatrix)
    vector = _py2java(context, model.interceptVector)
    name = f"{of.__module__.replace('pyspark', 'org.apache.spark', 1)}.{of.__name__}"
    made = of(JavaParams._new_java_obj(name, model.uid, matrix, vector, *more))
    for param in made.params:
        if model.hasParam(param.name) and model.isSet(param.name) and param.name not in ("solver",):
            made.set(param, model.getOrDefault(param.name))
    made._transfer_params_to_java()
    return made


__all__ = ["spark_model"]
