"""Factorization machines of pyspark.ml with our coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkps.mllib.coefficients import LocalCoefficients
from sparkps.mllib.params.factorization import DESCENT_SOLVERS

if TYPE_CHECKING:
    from sparkps.mllib.fm.model import MachineModel


def spark_machine(model: MachineModel, name: str) -> Any:
    """The same model of pyspark.ml, with the Params that are set.

    Parameters
    ----------
    model : MachineModel
    name : str
        Of its class, with the module: "classification.FMClassificationModel".

    Raises
    ------
    InvalidInput
        There are more coefficients than a matrix can have.
    """
    from importlib import import_module

    from pyspark.ml.common import _py2java
    from pyspark.ml.wrapper import JavaParams
    from pyspark.sql import SparkSession

    context = SparkSession.builder.getOrCreate().sparkContext
    held: Any = model.coefficients_
    local = isinstance(held, LocalCoefficients)
    factors = held.in_jvm(context, lambda: model.factors) if local else _py2java(context, model.factors)
    linear = _py2java(context, model.linear)
    java = JavaParams._new_java_obj(f"org.apache.spark.ml.{name}", model.uid, model.intercept, linear, factors)
    module, _, cls = name.partition(".")
    made = getattr(import_module(f"pyspark.ml.{module}"), cls)(java)
    for param in made.params:
        if model.hasParam(param.name) and model.isSet(param.name):
            value = model.getOrDefault(param.name)
            if param.name != "solver" or value in DESCENT_SOLVERS:
                made.set(param, value)
    made._transfer_params_to_java()
    return made


__all__ = ["spark_machine"]
