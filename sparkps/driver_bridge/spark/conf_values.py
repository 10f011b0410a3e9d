"""Values of Spark's own settings, as Spark reads them: pure functions of a mapping of keys to strings."""

from __future__ import annotations

from collections.abc import Mapping

from sparkps.config import parse_bytes
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError

MIB = 1 << 20


def number(conf: Mapping[str, str], key: str, default: int) -> int:
    """A whole number; a key without a value counts as not set.

    Raises
    ------
    ConfigError
        It is no number.
    """
    raw = conf.get(key)
    if raw is None or not raw.strip():
        return default
    try:
        return int(float(raw))
    except (ValueError, OverflowError):
        raise ConfigError(f"`{key}` must be a number. Got {raw!r} instead.", key=key) from None


def fraction(conf: Mapping[str, str], key: str, default: float, *, or_zero: bool = False) -> float:
    """A number that may be a fraction, as Spark takes it for what a task needs.

    Raises
    ------
    ConfigError
        It is no number above 0, nor 0 where that may be.
    """
    raw = conf.get(key)
    if raw is None or not raw.strip():
        return default
    try:
        value = float(raw)
    except ValueError:
        value = -1.0
    if not (value > 0 or (or_zero and value == 0)):
        least = "of at least 0" if or_zero else "above 0"
        raise ConfigError(f"`{key}` must be a number {least}. Got {raw!r} instead.", key=key)
    return value


def flag(conf: Mapping[str, str], key: str, default: bool = False) -> bool:
    """True or false."""
    return conf.get(key, str(default)).strip().lower() == "true"


def size(conf: Mapping[str, str], key: str, default: int, unit: int = MIB) -> int:
    """Bytes of a size.

    Parameters
    ----------
    unit : int
        Bytes that a plain number counts: MiB for most sizes of executors.

    Raises
    ------
    ConfigError
        It is no size.

    Examples
    --------
    >>> size({"spark.executor.memory": "2g"}, "spark.executor.memory", 0) == size({"m": "2048"}, "m", 0) == 2 << 30
    True
    """
    raw = conf.get(key)
    if raw is None or not raw.strip():
        return default
    try:
        return int(raw) * unit if raw.strip().isdigit() else parse_bytes(raw.strip())
    except ValueError:
        raise ConfigError(f"`{key}` must be a size, as '512m' or '4g'. Got {raw!r} instead.", key=key) from None


def is_dynamic(master: str, conf: Mapping[str, str]) -> bool:
    """Whether Spark asks for executors as it needs them. A local master never does."""
    return flag(conf, "spark.dynamicAllocation.enabled") and not Master(master).in_driver


def shown_size(count: int) -> str:
    """Bytes as people read them.

    Examples
    --------
    >>> shown_size(512 << 20), shown_size(3 << 29), shown_size(0)
    ('512 MiB', '1.5 GiB', '0 MiB')
    """
    if count >= 1 << 30:
        return f"{round(count / (1 << 30), 2):g} GiB"
    return f"{round(count / MIB):d} MiB"


__all__ = ["MIB", "flag", "fraction", "is_dynamic", "number", "shown_size", "size"]
