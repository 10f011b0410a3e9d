"""Classifiers and regressors of rows of fields."""

from __future__ import annotations

from sparkps.mllib.deep.zoo import architectures
from sparkps.mllib.deep.zoo.estimators import ArchitectureClassifier, ArchitectureModel, ArchitectureRegressor
from sparkps.mllib.deep.zoo.params import HasAttention, HasBottom, HasCrosses, HasFeatureMaps, HasProducts


class MLPModel(ArchitectureModel):
    """A fitted multilayer perceptron."""

    _architecture = architectures.Perceptron


class MLPClassifier(ArchitectureClassifier[MLPModel]):
    """Hidden layers over the embeddings of all categories, and numbers.

    Examples
    --------
    >>> MLPClassifier(categoricalCols=["town"], numericCols=["age"], hiddenUnits=[64]).fit(df)    # doctest: +SKIP
    """

    _model = MLPModel


class MLPRegressor(ArchitectureRegressor[MLPModel]):
    """As `MLPClassifier`, of numbers."""

    _model = MLPModel


class WideAndDeepModel(ArchitectureModel):
    """A fitted wide and deep model."""

    _architecture = architectures.WideAndDeep


class WideAndDeepClassifier(ArchitectureClassifier[WideAndDeepModel]):
    """A linear model and hidden layers, trained together (Cheng et al., Wide & Deep Learning for Recommender Systems, DLRS 2016).

    Examples
    --------
    >>> WideAndDeepClassifier(categoricalCols=["town", "hour"], maxIter=2).fit(df).summary.areaUnderROC    # doctest: +SKIP
    """

    _model = WideAndDeepModel


class WideAndDeepRegressor(ArchitectureRegressor[WideAndDeepModel]):
    """As `WideAndDeepClassifier`, of numbers."""

    _model = WideAndDeepModel


class DeepFMModel(ArchitectureModel):
    """A fitted DeepFM."""

    _architecture = architectures.DeepFM


class DeepFMClassifier(ArchitectureClassifier[DeepFMModel]):
    """A factorization machine and hidden layers that share embeddings (Guo et al., DeepFM, IJCAI 2017).

    Examples
    --------
    >>> DeepFMClassifier(categoricalCols=["town", "hour"], embeddingDim=8, maxIter=2).fit(df)    # doctest: +SKIP
    """

    _model = DeepFMModel


class DeepFMRegressor(ArchitectureRegressor[DeepFMModel]):
    """As `DeepFMClassifier`, of numbers."""

    _model = DeepFMModel


class XDeepFMModel(ArchitectureModel, HasFeatureMaps):
    """A fitted xDeepFM."""

    _architecture = architectures.CompressedInteractions


class XDeepFMClassifier(ArchitectureClassifier[XDeepFMModel], HasFeatureMaps):
    """Compressed interactions of vectors, hidden layers and a linear model (Lian et al., xDeepFM, KDD 2018)."""

    _model = XDeepFMModel


class XDeepFMRegressor(ArchitectureRegressor[XDeepFMModel], HasFeatureMaps):
    """As `XDeepFMClassifier`, of numbers."""

    _model = XDeepFMModel


class DCNv2Model(ArchitectureModel, HasCrosses):
    """A fitted deep and cross network."""

    _architecture = architectures.CrossNetwork


class DCNv2Classifier(ArchitectureClassifier[DCNv2Model], HasCrosses):
    """Cross layers of full or low rank beside hidden layers (Wang et al., DCN V2, WWW 2021)."""

    _model = DCNv2Model


class DCNv2Regressor(ArchitectureRegressor[DCNv2Model], HasCrosses):
    """As `DCNv2Classifier`, of numbers."""

    _model = DCNv2Model


class NFMModel(ArchitectureModel):
    """A fitted neural factorization machine."""

    _architecture = architectures.NeuralFM


class NFMClassifier(ArchitectureClassifier[NFMModel]):
    """Hidden layers over the pooled products of pairs (He and Chua, Neural Factorization Machines, SIGIR 2017).

    The pooled products go through a layer normalization, where the paper has batch normalization: it needs no statistics of all workers.
    """

    _model = NFMModel


class NFMRegressor(ArchitectureRegressor[NFMModel]):
    """As `NFMClassifier`, of numbers."""

    _model = NFMModel


class AFMModel(ArchitectureModel, HasAttention):
    """A fitted attentional factorization machine."""

    _architecture = architectures.AttentionalFM


class AFMClassifier(ArchitectureClassifier[AFMModel], HasAttention):
    """A factorization machine whose pairs are weighted by attention (Xiao et al., Attentional Factorization Machines, IJCAI 2017)."""

    _model = AFMModel


class AFMRegressor(ArchitectureRegressor[AFMModel], HasAttention):
    """As `AFMClassifier`, of numbers."""

    _model = AFMModel


class PNNModel(ArchitectureModel, HasProducts):
    """A fitted product-based network."""

    _architecture = architectures.ProductNetwork


class PNNClassifier(ArchitectureClassifier[PNNModel], HasProducts):
    """Hidden layers over embeddings and their products (Qu et al., Product-based Neural Networks, ICDM 2016)."""

    _model = PNNModel


class PNNRegressor(ArchitectureRegressor[PNNModel], HasProducts):
    """As `PNNClassifier`, of numbers."""

    _model = PNNModel


class DLRMModel(ArchitectureModel, HasBottom):
    """A fitted DLRM."""

    _architecture = architectures.RecommendationModel


class DLRMClassifier(ArchitectureClassifier[DLRMModel], HasBottom):
    """Dot products of all pairs of vectors, one of which the numbers make (Naumov et al., Deep Learning Recommendation Model, 2019)."""

    _model = DLRMModel


class DLRMRegressor(ArchitectureRegressor[DLRMModel], HasBottom):
    """As `DLRMClassifier`, of numbers."""

    _model = DLRMModel


__all__ = [
    "AFMClassifier", "AFMModel", "AFMRegressor", "DCNv2Classifier", "DCNv2Model", "DCNv2Regressor", "DLRMClassifier", "DLRMModel",
    "DLRMRegressor", "DeepFMClassifier", "DeepFMModel", "DeepFMRegressor", "MLPClassifier", "MLPModel", "MLPRegressor", "NFMClassifier",
    "NFMModel", "NFMRegressor", "PNNClassifier", "PNNModel", "PNNRegressor", "WideAndDeepClassifier", "WideAndDeepModel",
    "WideAndDeepRegressor", "XDeepFMClassifier", "XDeepFMModel", "XDeepFMRegressor",
]  # fmt: skip
