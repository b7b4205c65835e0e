"""Make the work pool of a file in deployments/pools, and deploy flows to it.

    python -m deployments.work_pools kubernetes-gpu --deploy process-scan train-inpainting

The pool gets the template of its worker type with the file's values as defaults. Run again, it is brought up to date.
The deployments are called as in prefect.yaml with the pool's name behind, as in process-scan-kubernetes-gpu; schedules
and triggers stay with those of prefect.yaml. Workers: `prefect worker start --pool kubernetes-gpu`.
"""

import argparse
import copy
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings
from pydantic import Field, ValidationError

from deployments.registration import PREFECT_FILE, deploy_all
from flows.embedded_server import client_settings, running_server
from flows.server_home import home_folder
from tasks.errors import PipelineError, SettingsError
from tasks.settings.base import Settings

POOLS = Path(__file__).with_name("pools")
WORKERS = {
    "process": ("prefect.workers.process", "ProcessWorker", "prefect"),
    "docker": ("prefect_docker.worker", "DockerWorker", "prefect-docker"),
    "kubernetes": ("prefect_kubernetes.worker", "KubernetesWorker", "prefect-kubernetes"),
}


class PoolFile(Settings):
    """A file in deployments/pools."""

    name: str
    type: Literal["process", "docker", "kubernetes"]
    description: str
    concurrency_limit: int | None = Field(default=None, ge=1, description="Runs at once; empty: no limit.")
    defaults: dict[str, Any] = Field(default_factory=dict, description="Values for variables of the worker's template.")
    manifest: dict[str, Any] = Field(default_factory=dict, description="Merged into the Kubernetes job.")


def read_pool(name: str, folder: Path = POOLS) -> PoolFile:
    """The pool of that name. Raises `SettingsError` for one that is not there or cannot be used."""
    file = folder / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise SettingsError(f"there is no pool {name!r} in {folder}; give one of: {known}")
    try:
        pool = PoolFile.model_validate(yaml.safe_load(file.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise SettingsError(f"{file} cannot be used: {error}") from error
    if pool.name != name:
        raise SettingsError(f"{file} names its pool {pool.name!r}; file and pool have one name")
    return pool


def worker_template(pool: PoolFile) -> dict[str, Any]:
    """The template that the pool's worker type brings. Raises `SettingsError` where that package is not installed."""
    module, name, package = WORKERS[pool.type]
    try:
        worker = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise SettingsError(
            f"pool {pool.name} needs {package}, which is not installed: pip install {package}"
        ) from error
    return dict(worker.get_default_base_job_template())


def template_of(pool: PoolFile, base: dict[str, Any]) -> dict[str, Any]:
    """The worker's template with the pool's values. Raises `SettingsError` for a variable that the worker has not."""
    template = copy.deepcopy(base)
    variables = template["variables"]["properties"]
    if unknown := sorted(set(pool.defaults) - set(variables)):
        raise SettingsError(
            f"pool {pool.name}: a {pool.type} worker has no {', '.join(unknown)}, only {', '.join(sorted(variables))}"
        )
    for key, value in pool.defaults.items():
        variables[key]["default"] = value
    if pool.manifest:
        job = template["job_configuration"]
        if "job_manifest" not in job:
            raise SettingsError(f"pool {pool.name}: a {pool.type} worker makes no manifest to merge with")
        job["job_manifest"] = merged(job["job_manifest"], pool.manifest)
    return template


def merged(base: Any, patch: Any) -> Any:
    """Dicts key by key, lists entry by entry, anything else replaced.

    >>> merged({"containers": [{"name": "job"}]}, {"containers": [{"cpu": 8}], "volumes": [1]})
    {'containers': [{'name': 'job', 'cpu': 8}], 'volumes': [1]}
    """
    if isinstance(base, dict) and isinstance(patch, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in patch.items()}}
    if isinstance(base, list) and isinstance(patch, list):
        both = [merged(old, new) for old, new in zip(base, patch, strict=False)]
        return both + base[len(both) :] + patch[len(both) :]
    return patch


def register(pool: PoolFile) -> None:
    """Make the pool on the server, or bring it up to date."""
    template = template_of(pool, worker_template(pool))
    common = {"description": pool.description, "base_job_template": template}
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool.name)
        except ObjectNotFound:
            wanted = WorkPoolCreate(name=pool.name, type=pool.type, concurrency_limit=pool.concurrency_limit, **common)
            client.create_work_pool(wanted)
            return
        update = WorkPoolUpdate(concurrency_limit=pool.concurrency_limit, **common)
        client.update_work_pool(pool.name, update)


def deployments_for(pool: PoolFile, names: Sequence[str], prefect_file: Path = PREFECT_FILE) -> dict[str, Any]:
    """The deployments of these names as a prefect.yaml for the pool. Raises `SettingsError` for an unknown name."""
    facts = yaml.safe_load(prefect_file.read_text())
    known = {deployment["name"]: deployment for deployment in facts["deployments"]}
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"no such deployment: {', '.join(unknown)}; {prefect_file} has {', '.join(known)}")
    kept = {"schedules", "triggers", "work_pool", "name"}
    chosen = [
        {key: value for key, value in known[name].items() if key not in kept}
        | {"name": f"{name}-{pool.name}", "work_pool": {"name": pool.name}}
        for name in names
    ]
    return {"name": facts["name"], "pull": [], "deployments": chosen}


def main(arguments: list[str] | None = None) -> int:
    """Make the pool and deploy to it; return 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(prog="python -m deployments.work_pools", description=__doc__)
    parser.add_argument("pool", help="name of a file in deployments/pools, without .yaml")
    parser.add_argument("--deploy", nargs="*", default=[], metavar="NAME", help="deployments of prefect.yaml")
    options = parser.parse_args(arguments)
    try:
        pool = read_pool(options.pool)
        wanted = deployments_for(pool, options.deploy)
        with running_server() as url, temporary_settings(client_settings(url)), tempfile.TemporaryDirectory() as folder:
            register(pool)
            if options.deploy:
                file = Path(folder) / "prefect.yaml"
                file.write_text(yaml.safe_dump(wanted))
                deploy_all(home_folder(), url, file)
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(f"pool {pool.name} is ready: prefect worker start --pool {pool.name}")
    for name in options.deploy:
        print(f"  {name}-{pool.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
