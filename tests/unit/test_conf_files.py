"""What lies in conf/: keys that exist, values that are taken, a reason for each; profiles that Spark could run; files that agree."""

from __future__ import annotations

import pathlib
import re

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.resources import (
    DISCOVERY_IN_IMAGE,
    DISCOVERY_SCRIPT,
    NODE_PROCESSES,
    held_by_nodes,
    node_profile,
    warnings,
    worker_profile,
)
from sparkps.driver_bridge.spark.slots import Observed, check_platform, count_slots

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"

CLUSTERS = ["yarn", "standalone", "kubernetes", "gpu"]


def lines_of(name: str) -> list[str]:
    return (CONF / f"{name}.conf").read_text().splitlines()


def properties(name: str) -> dict[str, str]:
    """As Spark reads them: `Properties.load`."""
    found: dict[str, str] = {}
    for line in lines_of(name):
        if line.strip() and not line.startswith("#"):
            key, _, value = line.partition(" ")
            assert key not in found, f"{key} is there twice"
            found[key] = value.strip()
    return found


@pytest.mark.parametrize("name", CLUSTERS)
def test_each_key_has_its_reason_above_it(name: str) -> None:
    lines = lines_of(name)
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("spark."):
            assert before.startswith("# "), f"{name}.conf: {line}"
            assert " #" not in line, "Spark would take the comment as a part of the value"


@pytest.mark.parametrize("name", [*CLUSTERS, "local"])
def test_every_setting_exists_and_has_a_value_that_is_taken(name: str) -> None:
    conf = properties(name)
    settings = Settings.parse(conf)  # raises
    assert settings.num_nodes >= settings.replication
    check_platform(conf)
    assert all(re.fullmatch(r"spark\.[A-Za-z0-9.]+", key) for key in conf)


@pytest.mark.parametrize("name", CLUSTERS)
def test_profiles_can_be_had_without_a_warning(name: str) -> None:
    conf = properties(name)
    master, settings = conf["spark.master"], Settings.parse(conf)
    node = node_profile(master, conf, settings)
    assert (node.executor is None) == (name == "standalone")
    if node.executor is not None:
        assert node.executor.overhead == settings.node.node_memory + NODE_PROCESSES
    assert warnings(master, conf, settings.num_nodes, settings.node.node_memory) == []
    held = held_by_nodes(master, conf, settings, settings.num_nodes)
    slots = count_slots(master, conf, Observed(2, 0), gpus=settings.workers.gpus, held=held)
    assert slots.limit is not None
    assert slots.limit >= 8


def test_two_workers_of_a_container_share_its_gpu() -> None:
    conf = properties("gpu")
    profile = worker_profile("yarn", conf, Settings.parse(conf).workers.gpus)
    assert profile is not None
    assert profile.executor is not None
    assert (profile.executor.gpus, profile.tasks_per_executor, profile.executor.discovery) == (1, 2, f"./{DISCOVERY_SCRIPT}")
    assert (ROOT / conf["spark.files"]).exists()


def test_files_for_kubernetes_agree() -> None:
    yaml = pytest.importorskip("yaml")
    conf = properties("kubernetes")
    for who in ("driver", "executor"):
        path = conf[f"spark.kubernetes.{who}.podTemplateFile"]
        pod = yaml.safe_load((ROOT / path).read_text())
        assert (pod["apiVersion"], pod["kind"], pod["metadata"]["labels"]) == ("v1", "Pod", {"app": "sparkps"})
        (container,) = pod["spec"]["containers"]
        assert container["name"] == f"spark-kubernetes-{who}", "by that name Spark knows which container is its own"
        assert "image" not in container, "conf/kubernetes.conf names it"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == {"app": "sparkps", "spark-role": "executor"}
    assert worker_profile(conf["spark.master"], conf, 1).executor.discovery == DISCOVERY_IN_IMAGE  # type: ignore[union-attr]


def test_the_image_has_what_the_settings_name() -> None:
    image = (CONF / "kubernetes" / "Dockerfile").read_text()
    conf = properties("kubernetes")
    assert f"COPY conf/{DISCOVERY_SCRIPT} {DISCOVERY_IN_IMAGE}" in image
    assert "RUN python -m sparkps.kernels.ahead --ship" in image, "without kernels a pod's first node compiles for half a minute"
    assert "spark.sparkps.kernelCacheDir" not in conf, "those of the image are found by themselves"
    for copied in re.findall(r"^COPY (?!--)(.+) \S+$", image, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split()), copied
    base = re.search(r"FROM python:([0-9.]+)", image)
    least = re.search(r'requires-python = ">=([0-9.]+)"', (ROOT / "pyproject.toml").read_text())
    spark = re.search(r"ARG SPARK=([0-9.]+)", image)
    assert base is not None and least is not None and spark is not None  # noqa: PT018
    assert [int(n) for n in base[1].split(".")] >= [int(n) for n in least[1].split(".")]
    assert "4.1" <= spark[1] < "4.4", "as pyproject.toml has pyspark"
