"""Pools of a facility fit what their workers take: Prefect's own models where they are installed, else as stored.

worker_variables.json holds the variables of the default templates of prefect-docker and prefect-kubernetes, and the
job manifest; written by `python tests/orchestration/store_worker_variables.py` where both are installed.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessJobConfiguration

from deployments.work_pools import POOLS, PoolFile, deployments_for, read_pool, template_of, worker_template
from tasks.errors import SettingsError

STORED = json.loads(Path(__file__).with_name("worker_variables.json").read_text())
NAMES = sorted(path.stem for path in POOLS.glob("*.yaml"))


def stored_template(pool: PoolFile) -> dict[str, Any]:
    return worker_template(pool) if pool.type == "process" else dict(STORED[pool.type]["template"])


def job_of(template: dict[str, Any]) -> dict[str, Any]:
    """What a worker makes of the template for a run that gives no values of its own."""
    properties = template["variables"]["properties"]
    values = {key: schema["default"] for key, schema in properties.items() if "default" in schema}
    return dict(apply_values(template["job_configuration"], values, remove_notset=True))


@pytest.mark.parametrize("name", NAMES)
def test_values_are_what_the_worker_takes(name: str) -> None:
    pool = read_pool(name)
    template = template_of(pool, stored_template(pool))
    jsonschema.validate(pool.defaults, template["variables"])
    for key, value in pool.defaults.items():
        assert template["variables"]["properties"][key]["default"] == value
    if pool.type == "process":
        assert ProcessJobConfiguration(**job_of(template)).env == pool.defaults.get("env", {})


@pytest.mark.parametrize("name", [name for name in NAMES if read_pool(name).type != "process"])
def test_the_workers_own_model_takes_them(name: str) -> None:
    pool = read_pool(name)
    module = {"docker": "prefect_docker.worker", "kubernetes": "prefect_kubernetes.worker"}[pool.type]
    worker = pytest.importorskip(module, reason="validated where it is installed; here against worker_variables.json")
    model = getattr(worker, f"{pool.type.title()}WorkerJobConfiguration")
    made = model(**job_of(template_of(pool, worker_template(pool)))).model_dump(mode="json")
    assert pool.defaults["image"] in json.dumps(made)
    if pool.type == "kubernetes":
        assert made["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["name"] == "prefect-job"
    assert STORED[pool.type]["template"]["variables"]["properties"].keys() == (
        worker_template(pool)["variables"]["properties"].keys()
    )


def test_gpu_and_cpu_have_pools_of_their_own() -> None:
    kinds = {name.rpartition("-")[0] for name in NAMES}
    assert set(NAMES) == {f"{kind}-{device}" for kind in kinds for device in ("cpu", "gpu")}
    containers = {}
    for pool in (read_pool("kubernetes-cpu"), read_pool("kubernetes-gpu")):
        manifest = template_of(pool, stored_template(pool))["job_configuration"]["job_manifest"]
        containers[pool.name] = manifest["spec"]["template"]["spec"]["containers"]
    assert containers["kubernetes-gpu"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in containers["kubernetes-cpu"][0]["resources"]["limits"]
    assert "image" in containers["kubernetes-cpu"][0], "the worker's own container is kept"
    (devices,) = read_pool("docker-gpu").defaults["container_create_kwargs"]["device_requests"]
    assert devices["Capabilities"] == [["gpu"]]


@pytest.mark.parametrize("script", sorted(POOLS.glob("*.sbatch")), ids=lambda path: path.stem)
def test_slurm_scripts_start_a_worker_of_their_pool(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert f"--pool {script.stem} " in text
    assert ("--gres=gpu:1" in text) == script.stem.endswith("gpu")
    assert read_pool(script.stem).type == "process"


def test_deployments_are_those_of_prefect_yaml_without_their_triggers() -> None:
    made = deployments_for(read_pool("slurm-gpu"), ["process-scan", "dispatch-scan"])
    scan, dispatch = made["deployments"]
    assert (scan["name"], scan["entrypoint"]) == ("process-scan-slurm-gpu", "flows.process_scan.process_scan")
    assert scan["work_pool"] == {"name": "slurm-gpu"}
    assert not {"schedules", "triggers"} & (scan.keys() | dispatch.keys())
    with pytest.raises(SettingsError, match=r"no such deployment: nothing; .* has process-scan"):
        deployments_for(read_pool("slurm-gpu"), ["nothing"])


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"there is no pool 'elsewhere' .* give one of: docker-cpu"):
        read_pool("elsewhere")
    facts = {"name": "mine", "type": "process", "description": "d", "defaults": {"image": "x"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(facts))
    pool = read_pool("mine", tmp_path)
    with pytest.raises(SettingsError, match="a process worker has no image, only command, env"):
        template_of(pool, worker_template(pool))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(facts | {"nodes": 3}))
    with pytest.raises(SettingsError, match="unknown: 'nodes'"):
        read_pool("mine", tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(facts))
    with pytest.raises(SettingsError, match="names its pool 'mine'"):
        read_pool("other", tmp_path)
