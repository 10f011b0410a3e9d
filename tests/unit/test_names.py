"""One idea, one name: a class of the package is found by its name alone."""

from __future__ import annotations

import ast
import collections
import pathlib

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "sparkps"

#: Names that two classes have, and why.
SHARED = {
    "Constant": "an initializer and a schedule: users say `initializers.Constant` and `optim.Constant`",
    "Step": "a schedule, `optim.Step` to users, and the message that pulls or writes",
}


def test_no_two_public_classes_share_a_name():
    places = collections.defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert set(shared) == set(SHARED)
    assert all(len(where) == 2 for where in shared.values())
