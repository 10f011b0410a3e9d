"""The layers of the package: who may import whom (ARCHITECTURE.md, "Layers")."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sparkps"

#: Modules beneath all layers: values, names and rules that every process shares.
BASE = {
    "errors", "plain", "specs", "optim", "initializers", "config", "environment", "consistency", "lifeline", "sockets", "outgoing",
    "descriptors", "storage", "arrow", "spill", "host_memory", "secret", "secret_files", "admission", "namespaces", "peer_limits",
}  # fmt: skip

#: Layer -> layers that it may import, itself included. `deep` is `sparkps.mllib.deep`.
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "filesystems": BASE | {"filesystems"},
    "wire": BASE | {"wire"},
    "log_forwarding": BASE | {"wire", "log_forwarding"},
    "kernels": BASE | {"wire", "kernels"},
    "checkpoints": BASE | {"filesystems", "wire", "checkpoints"},
    "ps_nodes": BASE | {"filesystems", "wire", "kernels", "checkpoints", "log_forwarding", "ps_nodes"},
    "client": BASE | {"wire", "kernels", "client"},
    "driver_bridge": BASE | {"filesystems", "wire", "kernels", "checkpoints", "client", "log_forwarding", "driver_bridge"},
    "cli": BASE | {"wire", "checkpoints", "client", "driver_bridge", "cli"},
    "__main__": {"cli"},
    "mllib": BASE | {"filesystems", "wire", "kernels", "checkpoints", "client", "driver_bridge", "mllib"},
    "nn": BASE | {"wire", "kernels", "client", "nn"},
    "deep": BASE | {"filesystems", "wire", "kernels", "checkpoints", "client", "driver_bridge", "mllib", "nn", "deep"},
    "estimates": BASE | {"ps_nodes", "driver_bridge"},
    "testing": BASE | {"wire", "kernels", "checkpoints", "ps_nodes", "client", "driver_bridge", "testing"},
}

#: What comes with the extra of that name.
TORCH = frozenset({"torch", "safetensors"})

#: Packages that the pure layers do without.
HEAVY = frozenset({"numba", "pyspark", "zmq", "pyarrow", "pandas"}) | TORCH

#: Packages from outside that a layer does without, wherever in a module the import stands.
NEVER = {
    **dict.fromkeys(BASE, HEAVY),
    "sockets": HEAVY - {"zmq"},
    "outgoing": HEAVY - {"zmq"},
    "descriptors": HEAVY - {"zmq"},
    "secret": HEAVY - {"zmq"},
    "secret_files": HEAVY,
    "admission": HEAVY - {"zmq"},
    "arrow": HEAVY - {"pyarrow"},
    "spill": HEAVY - {"pyarrow"},
    "filesystems": HEAVY - {"pyarrow"},
    "log_forwarding": HEAVY - {"zmq"},
    "wire": HEAVY | {"threading", "time", "socket"},
    "kernels": HEAVY - {"numba"},
    "checkpoints": HEAVY - {"pyarrow"},
    "ps_nodes": TORCH | {"pyspark", "pandas"},
    "client": TORCH,
    "driver_bridge": TORCH,
    "cli": TORCH | {"numba", "pandas", "pyarrow", "zmq"},
    "__main__": HEAVY,
    "mllib": TORCH,
    "nn": HEAVY - {"torch", "zmq"},
    "deep": {"numba", "pandas", "zmq"},
    "testing": TORCH,
    "estimates": HEAVY,
}

#: Packages that a layer imports inside functions only, so that `import sparkps` and the coordinator start fast.
NOT_AT_THE_TOP = {
    "client": {"pyspark", "numba", "pandas", "pyarrow"},
    "driver_bridge": {"numba", "pandas"},
    "cli": {"pyspark"},
}

#: Modules of the coordinator's process, and what it needs of checkpoints: no numba and no pyspark at all, directly or through what
#: they import.
COORDINATOR = (
    "sparkps.driver_bridge.coordinator.server",
    "sparkps.checkpoints.plan",
    "sparkps.checkpoints.schedule",
    "sparkps.checkpoints.store",
)


def modules() -> list[pathlib.Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer_of(name: str) -> str:
    """`wire` of `sparkps.wire.codec`, `deep` of `sparkps.mllib.deep.job`; empty for the package itself."""
    parts = name.split(".")
    if parts[1:3] == ["mllib", "deep"]:
        return "deep"
    return parts[1] if len(parts) > 1 else ""


def dotted(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path: pathlib.Path) -> tuple[set[str], set[str]]:
    """Names of the modules that `path` imports: at its top level, and inside functions; those for types do not count."""
    top: set[str] = set()
    inner: set[str] = set()

    def visit(node: ast.AST, found: set[str]) -> None:
        for child in ast.iter_child_nodes(node):
            if is_for_types_only(child):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: imports are absolute"
                found.add(child.module or "")
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                visit(child, inner)
            else:
                visit(child, found)

    visit(ast.parse(path.read_text()), top)
    return top, inner


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_module_imports_only_layers_beneath_it(path):
    layer = layer_of(dotted(path))
    assert layer in MAY_IMPORT, f"{path} belongs to no layer"
    top, inner = imports(path)
    known = {layer_of(name) for name in top | inner if name.split(".")[0] == "sparkps"} & set(MAY_IMPORT)
    assert known <= MAY_IMPORT[layer], f"{dotted(path)} imports {sorted(known - MAY_IMPORT[layer])}"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_module_imports_no_package_that_its_layer_does_without(path):
    layer = layer_of(dotted(path))
    top, inner = imports(path)
    banned = {name.split(".")[0] for name in top | inner} & NEVER[layer]
    early = {name.split(".")[0] for name in top} & NOT_AT_THE_TOP.get(layer, set())
    assert not banned, f"{dotted(path)} imports {sorted(banned)}"
    assert not early, f"{dotted(path)} imports {sorted(early)} at its top level instead of where it is used"


def test_torch_is_needed_by_two_layers_only():
    assert set(NEVER) == set(MAY_IMPORT)
    assert {layer for layer, banned in NEVER.items() if not banned >= TORCH} == {"nn", "deep"}
    assert {layer for layer, may in MAY_IMPORT.items() if may & {"nn", "deep"}} == {"nn", "deep"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "driver_bridge" / "coordinator").rglob("*.py")), ids=dotted)
def test_the_coordinator_knows_neither_driver_nor_workers(path):
    top, inner = imports(path)
    bridge = {name for name in top | inner if name.startswith("sparkps.driver_bridge.")}
    assert all(name.startswith("sparkps.driver_bridge.coordinator") for name in bridge), f"{dotted(path)} imports {sorted(bridge)}"


#: What the families of `sparkps.mllib` share; what stands in a room may import from its own and from those named.
MLLIB_ROOMS = {
    "errors": {"errors"},
    "data": {"data", "errors"},
    "params": {"errors", "params"},
    "tables": {"tables"},
    "metrics": {"metrics"},
    "solvers": {"solvers", "data", "metrics", "params", "tables"},
    "summaries": {"summaries", "errors", "metrics"},
    "coefficients": {"coefficients", "data", "tables"},
    "models": {"models", "coefficients", "data", "errors", "params", "summaries", "tables"},
    "checkpoints": {"checkpoints", "tables"},
    "streaming": {"streaming", "checkpoints", "data", "solvers", "tables", "training"},
    "fits": {"fits", "checkpoints", "solvers", "tables"},
    "training": {"training", "coefficients", "data", "errors", "fits", "solvers", "tables"},
    "fitting": {"fitting", "data", "errors", "models", "params", "solvers", "summaries", "training"},
}
MLLIB = PACKAGE / "mllib"

#: Folders of models that are alike, each beside the others; `deep` is one.
FAMILIES = {path.name for path in MLLIB.iterdir() if (path / "__init__.py").is_file()} - set(MLLIB_ROOMS)

#: What a family shows besides its own, in its `__init__`: users look for a perceptron among the networks, too.
SHOWN_TOO = {"sparkps.mllib.deep": {"classification"}}


def room_of(name: str) -> str:
    """`solvers` of `sparkps.mllib.solvers.lbfgs`; empty outside of `sparkps.mllib`."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["sparkps", "mllib"] and len(parts) > 2 else ""


@pytest.mark.parametrize("path", [path for path in sorted(MLLIB.rglob("*.py")) if path != MLLIB / "__init__.py"], ids=dotted)
def test_no_family_of_models_knows_another_and_what_they_share_knows_none(path):
    top, inner = imports(path)
    known = {room_of(name) for name in top | inner} - {""}
    room = room_of(dotted(path))
    if room in MLLIB_ROOMS:
        assert known <= MLLIB_ROOMS[room], f"{dotted(path)} imports {sorted(known - MLLIB_ROOMS[room])}"
    elif room in FAMILIES:
        may = {room, *MLLIB_ROOMS, *SHOWN_TOO.get(dotted(path), ())}
        assert known <= may, f"{dotted(path)} imports {sorted(known - may)}"
    else:
        assert known <= {*FAMILIES, *MLLIB_ROOMS} - {"deep"}, f"{dotted(path)} is an estimator's, and imports another's"


def closure(start: str) -> set[str]:
    """Every module of the package that importing `start` brings in, and the outside packages they name at the top."""
    files = {dotted(path): path for path in [*modules(), PACKAGE / "__init__.py"]}
    seen: set[str] = set()
    outside: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
        top, _ = imports(files[name])
        waiting += [other for other in [*top, *parents] if other in files]
        outside |= {other.split(".")[0] for other in top if other.split(".")[0] != "sparkps"}
    return outside


@pytest.mark.parametrize("module", COORDINATOR)
def test_coordinator_starts_without_numba_and_pyspark(module):
    assert not closure(module) & {"numba", "llvmlite", "pyspark", "torch", "pandas", "pyarrow"}


def test_environment_is_read_in_one_module_only():
    texts = {dotted(path): path.read_text() for path in modules() if path.name != "environment.py"}
    readers = [name for name, text in texts.items() if "os.environ" in text or "getenv" in text]
    assert not readers
