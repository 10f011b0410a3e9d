"""Multilayer perceptrons of pyspark.ml with our weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkps.mllib.multilayer.model import MultilayerModel


def spark_multilayer(model: MultilayerModel) -> Any:
    """The same model of pyspark.ml, with the Params that are set.

    Raises
    ------
    InvalidInput
        There are more weights than a vector can have.
    """
    from pyspark.ml.classification import MultilayerPerceptronClassificationModel
    from pyspark.ml.common import _py2java
    from pyspark.ml.wrapper import JavaParams
    from pyspark.sql import SparkSession

    context = SparkSession.builder.getOrCreate().sparkContext
    name = "org.apache.spark.ml.classification.MultilayerPerceptronClassificationModel"
    made = MultilayerPerceptronClassificationModel(
        JavaParams._new_java_obj(name, model.uid, _py2java(context, model.weights))
    )
    for param in made.params:
        if model.hasParam(param.name) and model.isSet(param.name):
            made.set(param, model.getOrDefault(param.name))
    made._transfer_params_to_java()
    return made


__all__ = ["spark_multilayer"]
