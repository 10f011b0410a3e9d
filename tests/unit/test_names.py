"""One idea, one name: a class of the package is found by its name alone."""

from __future__ import annotations

import ast
import collections
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "sparkps"

#: Names that several classes have: where they are.
SHARED = {
    # the columns of rows to train on, and the part of an architecture that reads all of them
    "Columns": ["mllib/data/rows.py", "mllib/deep/zoo/blocks.py"],
    # `sparkps.connect` gives it to users, and what the coordinator knows of one of its peers
    "Connection": ["client/connection.py", "driver_bridge/coordinator/connections.py"],
    # an initializer and a schedule: users say `initializers.Constant` and `optim.Constant`
    "Constant": ["initializers.py", "optim.py"],
    # cores of executors that nodes hold, and what a deep model has learned
    "Held": ["driver_bridge/profiles.py", "mllib/deep/scoring.py"],
    # of steps and changes of gradient, and of fields
    "Pairs": ["mllib/deep/zoo/blocks.py", "mllib/solvers/pairs.py"],
    # Rosenblatt's, an estimator, and layers of them, an architecture that users call MLP
    "Perceptron": ["mllib/classification.py", "mllib/deep/zoo/architectures.py"],
    # that of a training, `nn.Step` to users, a schedule, `optim.Step` to users, and the message that pulls or writes
    "Step": ["nn/step.py", "optim.py", "wire/messages/data.py"],
    # of one step, and of one bucket
    "TableRows": ["nn/step.py", "ps_nodes/tables/bucket_rows.py"],
}


def test_no_two_public_classes_share_a_name():
    places = collections.defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == SHARED
