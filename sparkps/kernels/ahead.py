"""Compiling and loading kernels before they are called. Kernels belong to the package that declares them.

The tier's are in `sparkps.kernels`; an estimator names the packages of its own. ``python -m sparkps.kernels.ahead`` compiles
those of the packages that it is given, or everything. With ``--ship`` it puts them into the Python environment itself, where every
process of that environment finds them, also where it was unpacked on another host with the same kind of processor: for an archive of
the environment, or an image of a container.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from sparkps.kernels import places
from sparkps.kernels.compiled import AHEAD, Kernel, declared

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
    """Names of a module, or of a package with all below it that can be imported here, imported."""
    return frozenset(_imported(owner))


def _imported(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield name
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not found.name.startswith("__"):
            # What needs an extra that is not installed cannot be called here either.
            with contextlib.suppress(ModuleNotFoundError):
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
        each.ready(AHEAD)
    return len(missing)


def load_kept(dtype: str, *owners: str) -> None:
    """Load every kernel of `owners` for tables of `dtype` that is on disk, so that none of them has to be later; compiles nothing.

    Raises
    ------
    MemoryError
    """
    for each in kernels_of(*owners):
        if not each.is_ready(("", dtype)) and each.is_cached(("", dtype)):  # what is loaded is not looked for: training makes many tables
            each.ready(("", dtype))


def ship(*owners: str, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Put the kernels of `owners`, or all, into the Python environment: those on disk as they are, others are compiled.

    Parameters
    ----------
    *owners : str
    progress : callable, optional
        As in `warm`.

    Returns
    -------
    Path
        The directory (`places.shipped`).

    Raises
    ------
    OSError
        It cannot be written.
    """
    directory, wanted = places.shipped(), owners or (EVERYTHING,)
    directory.mkdir(parents=True, exist_ok=True)
    for each in kernels_of(*wanted):
        each.copy_to(directory)
    places.use(directory)
    warm(*wanted, progress=progress)
    if not is_warm(*wanted):
        raise OSError(f"not all compiled kernels could be written to {str(directory)!r}")
    return directory


def main(argv: list[str]) -> None:
    """Compile the kernels of the packages that are given, or all, and tell of each on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sparkps.kernels.ahead", description="Compiles kernels ahead of their use.")
    parser.add_argument("owners", nargs="*", default=[EVERYTHING], help="packages or modules that declare them (default: all of sparkps)")
    parser.add_argument("--ship", action="store_true", help="put them into the Python environment, to go where it goes")
    arguments = parser.parse_args(argv)

    def tell(done: int, of: int, name: str) -> None:
        sys.stderr.write(f"sparkps: compiling kernel {done + 1} of {of}, {name}\n")

    if arguments.ship:
        sys.stderr.write(f"sparkps: compiled kernels are in {ship(*arguments.owners, progress=tell)}\n")
    else:
        warm(*arguments.owners, progress=tell)


if __name__ == "__main__":
    main(sys.argv[1:])
