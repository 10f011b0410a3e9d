"""Whether Spark's own connections, through which executors get the keys of a tier, are closed to others."""

from __future__ import annotations

from collections.abc import Mapping

from sparkps.config import PREFIX
from sparkps.driver_bridge.spark.conf_values import flag
from sparkps.errors import ConfigError

#: Either encrypts what drivers and executors say to each other.
_ENCRYPTED = ("spark.network.crypto.enabled", "spark.ssl.rpc.enabled")


def check_channel(conf: Mapping[str, str], allow_plaintext_keys: bool) -> None:
    """Refuse to send keys through connections that others could read or speak on.

    Parameters
    ----------
    conf : mapping
        Of Spark.
    allow_plaintext_keys : bool
        The network is trusted: nothing is refused.

    Raises
    ------
    ConfigError
        Says what to set.

    Examples
    --------
    >>> check_channel({"spark.authenticate": "true", "spark.network.crypto.enabled": "true"}, False)
    """
    if allow_plaintext_keys or (flag(conf, "spark.authenticate") and any(flag(conf, key) for key in _ENCRYPTED)):
        return
    got = ", ".join(f"{key} = {conf.get(key, 'false')}" for key in ("spark.authenticate", *_ENCRYPTED))
    missing = "spark.authenticate" if not flag(conf, "spark.authenticate") else _ENCRYPTED[0]
    raise ConfigError(
        "Executors get the keys of the tier through Spark, so Spark's own connections must be authenticated and encrypted:"
        " `spark.authenticate` = true and `spark.network.crypto.enabled` = true (or `spark.ssl.rpc.enabled`). Got"
        f" {got}. Set them (on YARN and Kubernetes Spark makes the secret by itself, elsewhere give `spark.authenticate.secret`), or, on a"
        f" network in which nobody else can read and speak, `{PREFIX}allowPlaintextKeys` = true.",
        key=missing,
    )


__all__ = ["check_channel"]
