"""Write worker_variables.json from the installed prefect-docker and prefect-kubernetes; a person runs it, no test."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any


def bare(schema: Any) -> Any:
    """A schema without its texts."""
    if isinstance(schema, dict):
        texts = ("description", "title") if "type" in schema or "anyOf" in schema or "$ref" in schema else ()
        return {key: bare(value) for key, value in schema.items() if key not in texts}
    return [bare(item) for item in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Write the file beside this one."""
    from prefect_docker.worker import DockerWorker
    from prefect_kubernetes.worker import KubernetesWorker

    stored = {
        worker.type: {"made_with": version(package), "template": bare(worker.get_default_base_job_template())}
        for worker, package in ((DockerWorker, "prefect-docker"), (KubernetesWorker, "prefect-kubernetes"))
    }
    file = Path(__file__).with_name("worker_variables.json")
    file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
