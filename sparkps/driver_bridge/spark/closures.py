"""Closures of Spark's tasks bring the secret of a tier to executors.

pyspark pickles functions for its Python workers, and elements of RDDs, with a pickler of its own. In a process that has the secret of a
tier this pickler learns to send it beside the tier's address, and the process that gets the address keeps it. Any other pickle of a table
handle, also that of a broadcast variable, of a saved estimator or of a server function, has the address alone.

Elements of RDDs that are handles bring the secret, too, and it goes where they go: ``sc.parallelize([table]).saveAsPickleFile(path)``
writes it to a file. pyspark does not tell its pickler what it pickles, so that they cannot be told from closures; handles belong in
functions.
"""

from __future__ import annotations

from typing import Any

from pyspark.cloudpickle import CloudPickler

from sparkps.secret import TierSecret, held, keep
from sparkps.wire.messages.control import TierAddress


def bring_secrets() -> None:
    """From now on closures that this process sends through Spark bring the secrets of the tiers that they speak of."""
    reducers: dict[type, Any] = CloudPickler._dispatch_table  # type: ignore[assignment]
    reducers[TierAddress] = _packed


def _packed(address: TierAddress) -> tuple[Any, ...]:
    secret = held(address.tier_id)
    plain = tuple(getattr(address, name) for name in TierAddress.__struct_fields__)
    return (TierAddress, plain) if secret is None else (_unpacked, (secret.raw, *plain))


def _unpacked(raw: bytes, *plain: Any) -> TierAddress:
    address = TierAddress(*plain)
    keep(address.tier_id, TierSecret(raw))
    return address


__all__ = ["bring_secrets"]
