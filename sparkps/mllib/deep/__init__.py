"""Deep models: embeddings on the tier, dense layers in the workers. Needs torch: ``pip install 'sparkps[torch]'``."""

from __future__ import annotations

import sparkps.nn  # noqa: F401 - says what to install where torch is missing
from sparkps.mllib.classification import MultilayerPerceptronClassificationModel, MultilayerPerceptronClassifier
from sparkps.mllib.deep.estimator import TorchEstimator
from sparkps.mllib.deep.losses import LogLoss, OwnLoss, RowLoss, SampledSoftmaxLoss, SoftmaxLoss, SquaredLoss, TasksLoss
from sparkps.mllib.deep.model import TorchModel
from sparkps.mllib.deep.zoo.fields import (
    AFMClassifier,
    AFMModel,
    AFMRegressor,
    DCNv2Classifier,
    DCNv2Model,
    DCNv2Regressor,
    DeepFMClassifier,
    DeepFMModel,
    DeepFMRegressor,
    DLRMClassifier,
    DLRMModel,
    DLRMRegressor,
    MLPClassifier,
    MLPModel,
    MLPRegressor,
    NFMClassifier,
    NFMModel,
    NFMRegressor,
    PNNClassifier,
    PNNModel,
    PNNRegressor,
    WideAndDeepClassifier,
    WideAndDeepModel,
    WideAndDeepRegressor,
    XDeepFMClassifier,
    XDeepFMModel,
    XDeepFMRegressor,
)
from sparkps.mllib.deep.zoo.special import DINClassifier, DINModel, MMoEClassifier, MMoEModel, PLEClassifier, PLEModel
from sparkps.mllib.deep.zoo.youtube import (
    YouTubeDNNClassifier,
    YouTubeDNNModel,
    YouTubeDNNRecommender,
    YouTubeDNNRecommenderModel,
)

__all__ = [
    "AFMClassifier", "AFMModel", "AFMRegressor", "DCNv2Classifier", "DCNv2Model", "DCNv2Regressor", "DINClassifier", "DINModel",
    "DLRMClassifier", "DLRMModel", "DLRMRegressor", "DeepFMClassifier", "DeepFMModel", "DeepFMRegressor", "LogLoss", "MLPClassifier",
    "MLPModel", "MLPRegressor", "MMoEClassifier", "MMoEModel", "MultilayerPerceptronClassificationModel",
    "MultilayerPerceptronClassifier", "NFMClassifier", "NFMModel", "NFMRegressor", "OwnLoss", "PLEClassifier", "PLEModel",
    "PNNClassifier", "PNNModel", "PNNRegressor", "RowLoss", "SampledSoftmaxLoss", "SoftmaxLoss", "SquaredLoss", "TasksLoss",
    "TorchEstimator", "TorchModel", "WideAndDeepClassifier", "WideAndDeepModel", "WideAndDeepRegressor", "XDeepFMClassifier",
    "XDeepFMModel", "XDeepFMRegressor", "YouTubeDNNClassifier", "YouTubeDNNModel", "YouTubeDNNRecommender", "YouTubeDNNRecommenderModel",
]  # fmt: skip
