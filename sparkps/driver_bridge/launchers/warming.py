"""Compiling the tier's kernels before anybody needs them, in a process of its own."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from sparkps.config import PREFIX
from sparkps.driver_bridge.launchers.children import Child, end
from sparkps.errors import ConfigError, TierError
from sparkps.kernels import places

log = logging.getLogger(__name__)

#: Seconds that compiling all kernels may take.
COMPILE_LIMIT = 900.0

#: Compiles all kernels; ends at once when the driver, the other end of its standard input, is gone.
_WARM = """
import os
from sparkps.lifeline import watch_stdin
watch_stdin(lambda: os._exit(1))
from sparkps.kernels.ahead import TIER, warm
warm(TIER)
"""


def warm_kernels(directory: Path, environment: Mapping[str, str]) -> None:
    """Compile the tier's kernels, if this machine has none that fit.

    Parameters
    ----------
    directory : Path
        For the log.
    environment : mapping
        Of the process that compiles.

    Raises
    ------
    ConfigError
        The directory that was asked for cannot keep them.
    TierError
        They cannot be compiled, or not in time.
    """
    from sparkps.kernels import ahead

    if ahead.is_warm(ahead.TIER):
        return
    found = places.found()
    if found.kept_in is None:
        _no_place_for_kernels(found)
        return
    log.warning(
        "sparkps compiles its kernels for this machine, once: up to a minute. They are kept in %r%s.",
        str(found.kept_in),
        f" ({found.why_not})" if found.refused else "",
    )
    began = time.monotonic()
    child = Child("kernels", [sys.executable, "-c", _WARM], directory / "kernels.log", environment)
    try:
        if not child.exited.wait(COMPILE_LIMIT) or child.status != 0:
            raise TierError(
                f"Compiling the kernels must succeed within {COMPILE_LIMIT:g} s. It has not: {child.ending()}"
            )
    finally:
        end([child], 0.0)
    log.warning("sparkps has compiled its kernels in %.0f s.", time.monotonic() - began)
    if not ahead.is_warm(ahead.TIER):
        log.warning("Not all of them could be kept: processes compile them again. %s", child.last_lines())


def _no_place_for_kernels(found: places.Places) -> None:
    """Compiled kernels cannot be kept: an error where a directory was asked for, a warning where none of the usual ones will do."""
    if places.given() is not None:
        raise ConfigError(
            f"`{PREFIX}kernelCacheDir` (or SPARKPS_KERNEL_CACHE_DIR) must be a directory that this user can write, or one that holds"
            f" all compiled kernels. Got {found.why_not}. Set it to another one, or to none: then kernels are kept in the user's cache"
            " directory or the temporary one.",
            key=PREFIX + "kernelCacheDir",
        )
    log.warning(
        "sparkps cannot keep compiled kernels: every process compiles those it needs, up to a minute in all, at each start. %s. Set"
        " `%skernelCacheDir` to a directory that can be written.",
        found.why_not,
        PREFIX,
    )


__all__ = ["warm_kernels"]
