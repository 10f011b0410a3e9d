"""A wheel of the package as it is here, made without any tool: what pip would make of it needs the network."""

from __future__ import annotations

import pathlib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def wheel_in(directory: pathlib.Path) -> pathlib.Path:
    """Make one: the package's modules, and what says which version they are.

    It is a zip by name, too: of other archives in `--py-files` Python workers of Spark hear on YARN only.
    """
    made = directory / "sparkps-0.1.0.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / "sparkps").rglob("*")):
            if path.suffix == ".py" or path.name == "py.typed":
                archive.write(path, path.relative_to(ROOT))
        archive.writestr("sparkps-0.1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sparkps\nVersion: 0.1.0\n")
    return made


__all__ = ["wheel_in"]
