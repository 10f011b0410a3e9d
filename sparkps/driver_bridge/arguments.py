"""A user's arguments for a `PSContext` and its calls, checked; those for tables are in `table_specs`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from sparkps.config import PREFIX, Settings, conf_of
from sparkps.errors import ConfigError, InvalidInput
from sparkps.plain import name_of, text_of
from sparkps.wire.functions import BUILT_IN


def settings_of(
    spark: Any,
    num_nodes: int | None,
    replication: int | None,
    launch: str | None,
    replication_ack: str | None,
    url: str | None = None,
    secret_file: str | os.PathLike[str] | None = None,
) -> Settings:
    """The settings of a session, with a context's arguments in place of theirs where they are given.

    Raises
    ------
    ConfigError
        One of them, or two of them together, cannot be.
    """
    secret_file = None if secret_file is None else os.fspath(secret_file)
    given: dict[str, Any] = {
        "num_nodes": num_nodes, "replication": replication, "launch": launch, "attach": url, "secret_file": secret_file
    }  # fmt: skip
    settings = dataclasses.replace(
        Settings.from_spark(spark), **{name: value for name, value in given.items() if value is not None}
    )
    if settings.launch == "attach" or (settings.launch == "auto" and settings.attach):
        _check_of_tier(num_nodes=num_nodes, replication=replication, replication_ack=replication_ack)
        return settings
    if url is not None or secret_file is not None:
        raise ConfigError(
            f"`url` and `secret_file` are of a tier to attach to. Got them with launch={settings.launch!r}: say"
            ' `PSContext(spark, launch="attach", url=..., secret_file=...)`.',
            key=PREFIX + "launch",
        )
    if replication_ack is not None:
        settings = dataclasses.replace(settings, node=dataclasses.replace(settings.node, replication_ack=replication_ack))
    if settings.replication > settings.num_nodes:
        raise ConfigError(
            f"`replication` (`{PREFIX}replication`) must be at most `num_nodes` (`{PREFIX}numNodes`), {settings.num_nodes}: the copies of"
            f" a bucket are on different nodes. Got {settings.replication}.",
            key=PREFIX + "replication",
        )
    return settings if PREFIX + "heartbeatDeadline" in conf_of(spark) else settings.for_replicas()


def _check_of_tier(**given: Any) -> None:
    """Refuse arguments that are for whoever starts a tier."""
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"`{name}` is for whoever starts a tier. Got {value!r} where one is attached to, which has its own: leave it out, and"
                " change the number of nodes by `ps.scale`."
            )


def function_name(fn: Any, name: Any) -> str:
    """The name of a server function: the one that is given, or its own.

    Raises
    ------
    InvalidInput
    """
    name = name if name is not None else getattr(fn, "__name__", "")
    if not callable(fn) or not isinstance(name, str) or not name or name == "<lambda>":
        raise InvalidInput(
            f"A server function must be callable, and have a name. Got {fn!r} as {name!r}: say `ps.function(fn, name=...)`."
        )
    if name in BUILT_IN:
        raise InvalidInput(f"A function must not have a built-in's name. Got {name!r}; choose another.", function=name)
    return name


def pickled_function(fn: Callable[..., Any], name: str) -> bytes:
    """A server function as it travels to the nodes.

    Raises
    ------
    InvalidInput
        It has captured what cannot travel.
    """
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(fn)
    except Exception as error:  # what it has captured may raise anything
        raise InvalidInput(
            f"Server function {name!r} must be picklable, with all that it has captured. It is not: {name_of(error)}: {text_of(error)}"
        ) from error
    return pickled


def whole_number(name: str, value: Any) -> int:
    """The argument `name`, which must be an int.

    Raises
    ------
    InvalidInput
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"`{name}` must be an int. Got {value!r} instead.")
    return value


def positive_seconds(timeout: Any) -> float:
    """The argument `timeout`, in seconds.

    Raises
    ------
    InvalidInput
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise InvalidInput(f"`timeout` must be a positive number of seconds. Got {timeout!r} instead.")
    return float(timeout)


__all__ = ["function_name", "pickled_function", "positive_seconds", "settings_of", "whole_number"]
