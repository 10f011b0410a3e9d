"""Compiling and loading kernels before they are called. Kernels belong to the package that declares them.

The tier's are in `sparkps.kernels`; an estimator names the packages of its own. ``python -m sparkps.kernels.ahead`` compiles
those of the packages that it is given, or everything, for instance while an image of a container is built.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import cache

from sparkps.kernels.compiled import Kernel, declared

#: Owner of the kernels that nodes and clients call.
TIER = "sparkps.kernels"
#: Owner of all.
EVERYTHING = "sparkps"


def kernels_of(*owners: str) -> list[Kernel]:
    """The kernels that these packages and modules declare, in the order of their declaration; imports what is not imported yet."""
    modules = {name for owner in owners for name in _modules(owner)}
    return [each for each in declared() if each.module in modules]


@cache
def _modules(owner: str) -> frozenset[str]:
    """Names of a module, or of a package with all below it, imported."""
    return frozenset(_imported(owner))


def _imported(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield name
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not found.name.startswith("__"):
            yield from _imported(f"{name}.{found.name}")


def is_warm(*owners: str) -> bool:
    """Whether every kernel of `owners` is on disk, unharmed."""
    return all(each.is_cached() for each in kernels_of(*owners))


def warm(*owners: str, progress: Callable[[int, int, str], None] | None = None) -> int:
    """Compile every kernel of `owners` that is not on disk.

    Parameters
    ----------
    *owners : str
        Names of packages or modules.
    progress : callable, optional
        Called before each compilation with the number done, the number to do, and the kernel's name.

    Returns
    -------
    int
        How many kernels had to be compiled.
    """
    missing = [each for each in kernels_of(*owners) if not each.is_cached()]
    for number, each in enumerate(missing):
        if progress is not None:
            progress(number, len(missing), each.__name__)
        each.ready({dtype for dtype, _ in each.signatures()})
    return len(missing)


def load_kept(dtype: str, *owners: str) -> None:
    """Load every kernel of `owners` for tables of `dtype` that is on disk, so that none of them has to be later; compiles nothing.

    Raises
    ------
    MemoryError
    """
    for each in kernels_of(*owners):
        if not each.is_ready(("", dtype)) and each.is_cached():  # what is loaded is not looked for: training makes many tables
            each.ready(("", dtype))


def main(owners: list[str]) -> None:
    """Compile the kernels of `owners`, or all, and tell of each on standard error."""
    warm(
        *(owners or [EVERYTHING]),
        progress=lambda done, of, name: print(f"sparkps: compiling kernel {done + 1} of {of}, {name}", file=sys.stderr),  # noqa: T201
    )


if __name__ == "__main__":
    main(sys.argv[1:])
