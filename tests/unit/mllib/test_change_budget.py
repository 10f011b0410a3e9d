"""What a change touches: a new loss is one module, and no other module of the package knows a loss.

`pseudo_huber` is a loss that the package does not have. `tests/spark/test_new_estimator.py` has an estimator with it.
"""

from __future__ import annotations

import ast
import pathlib
import re

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize

import sparkps.mllib
from sparkps.errors import InvalidInput
from sparkps.kernels import ahead
from sparkps.mllib.data.ingest import ingest
from sparkps.mllib.data.rows import Columns, RowReader
from sparkps.mllib.data.store import Store
from sparkps.mllib.linear import loss, losses
from sparkps.mllib.linear.loss import Loss, loss_named
from sparkps.mllib.solvers.lbfgs import Lbfgs
from sparkps.mllib.solvers.objective import LabelSums
from sparkps.mllib.solvers.quasi_newton import POINT
from tests.unit.mllib import pseudo_huber  # noqa: F401 - it registers the loss
from tests.unit.mllib.problems import NumpyVectors, batch_of

MLLIB = pathlib.Path(sparkps.mllib.__file__).parent
LOSSES = pathlib.Path(losses.__file__).parent
NEW = "pseudo_huber"

#: Public modules, named as in pyspark.ml: they know the losses of their estimators.
PUBLIC = [MLLIB / "classification.py", MLLIB / "feature.py", MLLIB / "regression.py"]

#: Deep models have losses of their own, which are tensors of torch.
DEEP = MLLIB / "deep"

#: What all estimators share.
SHARED = [path for path in sorted(MLLIB.rglob("*.py")) if path.parent != LOSSES and path not in PUBLIC and DEEP not in path.parents]


def code_of(path: pathlib.Path) -> str:
    """The statements of a module without its docstrings and comments."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree).lower()


@pytest.mark.parametrize("path", SHARED, ids=lambda path: str(path.relative_to(MLLIB)))
def test_no_shared_module_names_a_loss(path: pathlib.Path) -> None:
    names = {each.stem for each in LOSSES.glob("*.py")} - {"__init__"} | {NEW}
    assert "logistic" in names
    words = set(re.findall(r"\w+", code_of(path)))
    assert words & names == set()


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_an_estimator_is_short(path: pathlib.Path) -> None:
    """With its model and summary: 120 lines each."""
    classes = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    estimators = [name for name in classes if not name.startswith("_") and not name.endswith(("Model", "Summary"))]
    assert 0 < len(path.read_text().splitlines()) <= 120 * len(estimators)


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(12)
    x = rng.normal(size=(120, 3))
    return x, x @ [2.0, -1.0, 0.5] + 4.0 + rng.standard_t(2, 120)


def stored(objective: Loss, x: np.ndarray, y: np.ndarray) -> Store:
    reader = RowReader(Columns("label", "features"), label_rule=objective.label_rule)
    return ingest([batch_of(y.tolist(), pa.array(x.tolist()))], reader)


def test_a_loss_of_one_module_is_read_started_and_minimised() -> None:
    objective = loss_named(NEW)()
    x, y = data()
    store = stored(objective, x, y)
    start = objective.start(LabelSums(120.0, float(y.sum()), float(y @ y)))
    assert (start.intercepts, start.solved) == (pytest.approx([y.mean()]), "")

    def mean_loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        state = np.stack([np.append(w[:-1], 0.0), np.zeros(4)], axis=1)[:, :, None]
        total, slopes = objective.loss_and_gradient(store, state, w[-1:])
        return total / 120, np.append(state[:3, 1, 0], slopes) / 120

    assert store.keys.tolist() == [0, 1, 2, -1]
    vectors = NumpyVectors(mean_loss, np.append(np.zeros(3), start.intercepts))
    Lbfgs(vectors, 200, 1e-12).minimize()
    best = minimize(lambda w: np.sqrt(1 + (x @ w[:-1] + w[-1] - y) ** 2).mean(), np.zeros(4), options={"gtol": 1e-9})
    np.testing.assert_allclose(vectors.held[POINT], best.x, atol=1e-5)


def test_its_rule_refuses_labels_and_its_degenerate_case_ends_training() -> None:
    objective = loss_named(NEW)()
    with pytest.raises(InvalidInput, match="a label must be finite"):
        stored(objective, np.ones((1, 2)), np.array([np.nan]))
    assert objective.start(LabelSums(4.0, 8.0, 16.0)).solved == "labels do not vary"


def test_its_kernel_is_compiled_for_those_who_train_with_it() -> None:
    objective = loss_named(NEW)()
    assert [each.__name__ for each in ahead.kernels_of(*objective.kernels)] == ["pseudo_huber_loss_and_gradient"]
    assert all(each.module != objective.kernels[0] for each in ahead.kernels_of("sparkps.mllib"))


def test_a_loss_that_nobody_has_declared_is_named() -> None:
    with pytest.raises(KeyError, match="no loss 'nothing'"):
        loss_named("nothing")
    assert losses.__name__ == loss.HOME
