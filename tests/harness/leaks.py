"""Looks for a tier's secret where nobody may find it: in files, and in what the system tells of processes."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sparkps.secret import TierSecret


def spellings(secret: TierSecret) -> dict[str, bytes]:
    """All that is secret of it, as it could be written."""
    found = {"raw": secret.raw, "hex": secret.text.encode(), "HEX": secret.text.upper().encode(), "base64": base64.b64encode(secret.raw)}
    found["escaped"] = repr(secret.raw)[2:-1].encode()
    return {**found, "server key": secret.server.secret, "client key": secret.client.secret}


def in_files(folders: Iterable[Path], spelt: dict[str, bytes]) -> list[str]:
    """Files with one of `spelt` in them, and which."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [f"{name} in {path}" for path in files for name in _found(path, spelt)]


def in_processes(spelt: dict[str, bytes]) -> list[str]:
    """Processes of this machine whose command line or environment has one of `spelt`, and which."""
    pids = [path for path in Path("/proc").iterdir() if path.name.isdecimal() and path.name != str(os.getpid())]
    return [f"{name} in {pid / what}" for pid in pids for what in ("cmdline", "environ") for name in _found(pid / what, spelt)]


def _found(path: Path, spelt: dict[str, bytes]) -> Iterator[str]:
    try:
        content = path.read_bytes()
    except OSError:  # it has gone, or is somebody else's
        return
    for name, spelling in spelt.items():
        if spelling in content:
            yield name


__all__ = ["in_files", "in_processes", "spellings"]
