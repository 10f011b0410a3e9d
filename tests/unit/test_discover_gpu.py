"""conf/discover-gpu.sh, with tools on the PATH that say what those of NVIDIA and AMD say."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "conf" / "discover-gpu.sh"

#: What the tools print, as their manuals have it.
NVIDIA = 'test "$*" = "--query-gpu=index --format=csv,noheader" && printf "0\\n1\\n"'
NO_DRIVER = 'echo "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver"; exit 9'
AMD = 'test "$*" = "list --csv" && printf "gpu,gpu_bdf,gpu_uuid\\n0,0000:03:00.0,ab-12\\n1,0000:26:00.0,cd-34\\n"'
ROCM = (
    'test "$*" = "--showid --csv" && '
    'printf "\\nWARNING: GPUs are in a low-power state\\ndevice,Device Name\\ncard0,0x740f\\ncard10,0x740f\\ncard2,0x740f\\n"'
)


def discover(directory: pathlib.Path, **tools: str) -> tuple[list[str], str]:
    """What the script prints with only these tools of GPUs on its PATH; and what it complains of."""
    for needed in ("bash", "grep", "sort", "uname", "env"):
        found = next(path for each in os.defpath.split(":") if each and (path := pathlib.Path(each) / needed).exists())
        (directory / needed).symlink_to(found)
    for name, says in tools.items():
        tool = directory / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\n{says}\n")
        tool.chmod(0o755)
    ran = subprocess.run([str(SCRIPT)], env={"PATH": str(directory)}, capture_output=True, text=True, check=True, timeout=20)
    told = json.loads(ran.stdout)
    assert set(told) == {"name", "addresses"}
    assert told["name"] == "gpu"
    return told["addresses"], ran.stderr


def test_script_can_be_executed() -> None:
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.parametrize(
    ("tools", "addresses"),
    [
        ({"nvidia_smi": NVIDIA}, ["0", "1"]),
        ({"amd_smi": AMD}, ["0", "1"]),
        ({"rocm_smi": ROCM}, ["0", "2", "10"]),
        ({"nvidia_smi": NO_DRIVER, "rocm_smi": ROCM}, ["0", "2", "10"]),
        ({"nvidia_smi": NVIDIA, "rocm_smi": ROCM}, ["0", "1"]),
    ],
)
def test_gpus_are_found(tmp_path: pathlib.Path, tools: dict[str, str], addresses: list[str]) -> None:
    assert discover(tmp_path, **tools) == (addresses, "")


@pytest.mark.parametrize("tools", [{}, {"nvidia_smi": NO_DRIVER}])
def test_host_without_gpu_says_so_and_has_none(tmp_path: pathlib.Path, tools: dict[str, str]) -> None:
    addresses, complaint = discover(tmp_path, **tools)
    assert addresses == []
    assert "see no GPU" in complaint
