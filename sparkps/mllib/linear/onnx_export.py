"""Which linear models can be ONNX graphs, and what their graphs are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparkps.errors import InvalidInput
from sparkps.mllib.linear.matrices import matrix_of
from sparkps.mllib.linear.onnx_graph import LINKS_WITH_GRAPH, onnx_model
from sparkps.mllib.models.onnx_files import onnx_package, write_onnx

if TYPE_CHECKING:
    from sparkps.mllib.linear.model import LinearModel

#: Most coefficients of a graph, which has them all, zeros too.
MOST_COEFFICIENTS = 1 << 26


def exported(model: LinearModel, path: Any, dtype: str) -> Any:
    """See `LinearModel.to_onnx`."""
    onnx_package()
    _check(model, dtype)
    scorer = model._scorer(model.coefficients_, rows=model._rows)
    made = onnx_model(
        matrix_of(model.coefficients_, model.numFeatures).toArray(),
        list(scorer.intercepts),
        kind=model.kind_,
        link=model.link_,
        threshold=getattr(scorer, "threshold", 0.5),
        thresholds=getattr(scorer, "thresholds", None),
        dtype=dtype,
        about={"class": type(model).__name__, "uid": model.uid, **_names(model)},
    )
    write_onnx(made, path)
    return made


def _check(model: LinearModel, dtype: str) -> None:
    if dtype not in ("float32", "float64"):
        raise InvalidInput(f"`dtype` must be float32 or float64. Got {dtype!r} instead.")
    many = model.numFeatures * model.coefficients_.dim
    if model.facts_.get("source") or not 0 < many <= MOST_COEFFICIENTS:
        what = "hashed raw columns" if model.facts_.get("source") else f"{many} coefficients"
        raise InvalidInput(
            f"A graph of ONNX takes dense rows: a model must have at least 1 and at most {MOST_COEFFICIENTS} coefficients, of"
            f" elements of vectors. Got {what}; `sparkps.mllib.scoring.load_model` scores without Spark, too."
        )
    if model._offset:
        raise InvalidInput(f"A graph of ONNX adds no offset. Got offsetCol={model._offset!r}; clear the Param to leave it out.")
    if model.link_ not in LINKS_WITH_GRAPH:
        raise InvalidInput(f"The link of a model must be one of {', '.join(sorted(filter(None, LINKS_WITH_GRAPH)))}. Got {model.link_!r}.")


def _names(model: LinearModel) -> dict[str, str]:
    """Names of the features, one a line, where they are known."""
    names = model.facts_.get("names")
    return {"features": "\n".join(names)} if names else {}


__all__ = ["MOST_COEFFICIENTS", "exported"]
