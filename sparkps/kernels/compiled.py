"""Compiling kernels, and keeping what was compiled on disk.

A kernel declares the signatures that it is called with, so that a read-only array off the wire and an array of our own
share one compiled function, and so that `ahead` can compile everything ahead of time. Nothing is compiled or loaded before
it is first asked for: loading one kernel from the cache takes about 5 ms.

The cache is one file for each kernel and signature (see `files`), in a directory that can be written (see `places`). Its
name holds a hash of all kernel sources, of the processor, and of the versions of numba and Python: an edit never meets
stale code, any number of processes can fill one directory at once, and a directory can be copied to another host of the
same kind.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import pickle
import platform
import sys
import threading
from collections.abc import Callable, Container, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.extending import overload
from numpy.typing import NDArray

from sparkps.kernels import files, places

log = logging.getLogger(__name__)

FLOATS = ("float32", "float64")
#: How rows may lie that are worked with as float32; see `halves`, and `words_of`.
HALVES = ("bfloat16", "float16")
#: What is compiled ahead: "" is a kernel without a dtype. Few tables have rows in `HALVES`; what they call is compiled with the first.
AHEAD = ("", *FLOATS)
#: Bytes of memory that loading a kernel may take: code, and the arena of the thread that loads it.
ROOM_FOR_KERNEL = 16 << 20

_options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_compiling = threading.RLock()
#: Directories that have refused a file; each is named once, not once a kernel.
_complained: set[Path | None] = set()
#: Every kernel of the modules imported so far.
_declared: list[Kernel] = []


def use_cache_dir(path: str | os.PathLike[str] | None) -> None:
    """Keeps compiled kernels under `path` from now on; None: where `sparkps.kernels.places` finds room for them."""
    places.use(path)


def cache_dir() -> Path | None:
    """Where compiled kernels are kept; None where no directory takes them."""
    return places.found().kept_in


def _hash_of_sources() -> bytes:
    """Of all modules of this package."""
    digest = hashlib.sha256()
    for source in sorted(resources.files("sparkps.kernels").iterdir(), key=lambda entry: entry.name):
        if source.name.endswith(".py"):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.digest()


#: Taken as the package is imported: a file that is edited under a running process must not lend its name to older code.
_SOURCES = _hash_of_sources()


@cache
def _fingerprint() -> bytes:
    """Everything that compiled code depends on besides the function and its signature."""
    from numba.core.registry import cpu_target

    versions = (numba.__version__, np.__version__, platform.python_version())
    target = cpu_target.target_context.codegen().magic_tuple()
    return hashlib.sha256(_SOURCES + repr((versions, target)).encode()).digest()


def _own_source(function: Callable[..., Any]) -> bytes:
    """Source of the module of a kernel that lives outside this package, and of the module that wrote it for that one."""
    if function.__module__.startswith("sparkps.kernels."):
        return b""
    modules = dict.fromkeys((function.__module__, function.__globals__["__name__"]))
    sources = b"\0".join(_source(name) for name in modules)
    return sources + function.__code__.co_code + repr(function.__code__.co_consts).encode()


def _source(module: str) -> bytes:
    """Text of an imported module; empty where it has none."""
    loader: Any = getattr(sys.modules.get(module), "__loader__", None)
    source = loader.get_source(module) if hasattr(loader, "get_source") else None
    return (source or "").encode()


class _DiskCache:
    """What a numba dispatcher asks for compiled code, in place of numba's own cache.

    numba's keeps an index file per function, which two processes that compile different signatures at the same time can
    leave pointing at each other's code.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def cache_path(self) -> str:
        return str(cache_dir() or "")

    def enable(self) -> None:
        """Always on."""

    def disable(self) -> None:
        """Always on."""

    def flush(self) -> None:
        """Nothing is held back."""

    def name(self, signature: Any) -> str:
        """Name of the file of this function compiled for `signature`."""
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        digest = hashlib.sha256(_fingerprint() + _own_source(self._function) + repr((name, str(signature))).encode())
        return f"{self._function.__name__}-{digest.hexdigest()[:32]}.kernel"

    def find(self, signature: Any, directories: list[Path]) -> bytes | None:
        """The code for `signature` from the first directory that has it; what is damaged or someone else's does not count."""
        name = self.name(signature)
        for directory in directories:
            try:
                return files.read(directory / name)
            except FileNotFoundError:
                continue
            except files.UnfitFileError as error:
                log.warning("the compiled kernel %r is not used: %s. It is compiled again.", str(directory / name), error)
        return None

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        # Not `target_context.refresh()`, which makes ready for compiling: a quarter of a second, most of it scipy. Compiled code
        # needs the memory runtime alone, and whoever compiles refreshes first.
        rtsys.initialize(target_context)
        code = self.find(signature, places.searched())
        try:
            return CompileResult._rebuild(target_context, *pickle.loads(code)) if code is not None else None
        except Exception as error:  # code of a numba that says it is ours and is not: it is compiled again and replaced
            log.warning("cannot load the compiled kernel %s: %s", self._function.__name__, error)
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        directory = cache_dir()
        try:
            if directory is None:
                raise OSError(places.found().why_not)
            files.write(directory / self.name(signature), numba.core.serialize.dumps(result._reduce()))
        except OSError as error:
            if directory not in _complained:
                _complained.add(directory)
                where = "any directory" if directory is None else repr(str(directory))
                log.warning("compiled kernels cannot be kept in %s: %s", where, error)


def _dispatcher(function: Callable[..., Any], declared: bool = False) -> Any:
    dispatcher = numba.njit(**_options)(function)
    if declared or function.__closure__ is None:  # what a declared kernel closes over is covered by the sources' hash
        dispatcher._cache = _DiskCache(function)
    return dispatcher


def inlined(function: Callable[..., Any]) -> Any:
    """A helper that kernels call: compiled into each of them, never on its own."""
    return numba.njit(forceinline=True, **_options)(function)


def chosen_by_type(function: Callable[..., Any]) -> Any:
    """As `inlined`, of a helper that is another one for each type of its arguments: decorates what gives it for these types."""
    return overload(function, jit_options={"forceinline": True, **_options}, strict=False)


class Kernel:
    """A function with declared signatures; see `kernel`."""

    def __init__(self, function: Callable[..., Any], declare: Callable[[Any], Any], dtypes: tuple[str, ...]) -> None:
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.python = function
        self._declare = declare
        self._dtypes = dtypes
        self._ready: dict[str, Any] = {}
        #: The same by what `of` was asked for: turning a numpy dtype into its name takes as long as a small kernel.
        self._asked: dict[Any, Any] = {}

    def of(self, dtype: Any) -> Callable[..., Any]:
        """The compiled function for tables of `dtype`, compiled or loaded at the first call."""
        ready = self._asked.get(dtype)
        if ready is None:
            ready = self._asked[dtype] = self._prepare(str(dtype))
        return ready

    def __call__(self, *args: Any) -> Any:
        return (self._ready.get("") or self._prepare(""))(*args)

    @property
    def module(self) -> str:
        """Name of the module that declares it."""
        return self.python.__module__

    def is_ready(self, dtypes: Container[str]) -> bool:
        """Whether `ready` has nothing to do for `dtypes`."""
        return all(dtype in self._ready for dtype in self._dtypes if dtype in dtypes)

    def ready(self, dtypes: Container[str]) -> None:
        """Compile or load it for those of its dtypes that are in `dtypes`; "" is that of a kernel without."""
        for dtype in self._dtypes:
            if dtype in dtypes:
                self._prepare(dtype)

    def signatures(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Each declared dtype ("" for a kernel without) with its signature."""
        for dtype in self._dtypes:
            yield dtype, tuple(self._declare(_type_of(dtype)))

    def is_cached(self, dtypes: Container[str] = AHEAD) -> bool:
        """Whether its signatures for `dtypes` are on disk, unharmed."""
        disk, directories = _DiskCache(self.python), places.searched()
        signatures = [signature for dtype, signature in self.signatures() if dtype in dtypes]
        return all(disk.find(signature, directories) is not None for signature in signatures)

    def copy_to(self, directory: Path) -> None:
        """Write to `directory` what of it is on disk elsewhere.

        Raises
        ------
        OSError
        """
        disk, elsewhere = _DiskCache(self.python), places.searched()
        for _, signature in self.signatures():
            code = disk.find(signature, [directory])
            if code is None and (code := disk.find(signature, elsewhere)) is not None:
                files.write(directory / disk.name(signature), code)

    def _prepare(self, dtype: str) -> Any:
        with _compiling:
            if dtype in self._ready:
                return self._ready[dtype]
            _check_room(self.__name__)
            dispatcher = _dispatcher(self.python, declared=True)
            dispatcher.compile(dict(self.signatures())[dtype])
            dispatcher.disable_compile()  # what is declared is all there is: arguments convert to it
            self._ready[dtype] = dispatcher
            return dispatcher


def _check_room(name: str) -> None:
    """Raise where there is no memory for a kernel: LLVM would end the process."""
    try:
        mmap.mmap(-1, ROOM_FOR_KERNEL).close()
    except OSError as error:
        raise MemoryError(
            f"There must be {ROOM_FOR_KERNEL >> 20} MiB of memory to load the kernel {name!r}. There are not: {error.strerror}."
        ) from error


def declared() -> list[Kernel]:
    """Every kernel of the modules imported so far."""
    return list(_declared)


def kernel(*args: Any, dtypes: tuple[str, ...] = ("",)) -> Any:
    """Compiles a function without the GIL and keeps it on disk.

    Parameters
    ----------
    declare : callable, optional
        From a numba type to the tuple of the arguments' types: ``@kernel(lambda t: (HEADS, array(t, 2)), dtypes=FLOATS)``
        gives a `Kernel`, called as ``name.of(dtype)(...)``; without `dtypes` it is called with None and the kernel is called
        directly. Without `declare`, as ``@kernel``, types are taken from the arguments at each first call.
    dtypes : tuple of str
        The dtypes to declare.

    Returns
    -------
    Kernel or numba dispatcher
    """
    declare = args[0]
    if dtypes == ("",) and getattr(declare, "__name__", "") != "<lambda>":
        return _dispatcher(declare)

    def decorate(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, declare, dtypes)
        _declared.append(made)
        return made

    return decorate


def _type_of(dtype: str) -> Any:
    """What a kernel is declared for: the type of a table's rows as they lie in memory; None for a kernel without."""
    return _WORDS.get(dtype) or (getattr(types, dtype) if dtype else None)


#: A pointer to numbers in 16 bits tells by its type which they are.
_WORDS = {"bfloat16": types.uint16, "float16": types.int16}


def words_of(dtype: str) -> NDArray[Any]:
    """An empty array by which a kernel is told how the rows of a table lie.

    Examples
    --------
    >>> words_of("float64").dtype, words_of("bfloat16").dtype
    (dtype('float64'), dtype('uint16'))
    """
    return np.empty(0, str(_type_of(dtype)))


def values_of(kind: Any) -> Any:
    """Type of the values that a table has outside, and of its optimizer's state, by the type of its rows in memory."""
    return types.float32 if kind in _WORDS.values() else kind


def array(dtype: Any, ndim: int = 1) -> Any:
    """Type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, ndim, "C")


def given(dtype: Any, ndim: int = 1) -> Any:
    """Type of a C-contiguous array that a kernel only reads; it may be read-only."""
    return types.Array(dtype, ndim, "C", readonly=True)


HEADS = array(types.int64, 2)
