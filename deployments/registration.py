"""Tell the server about the project: work pool, limits, the automation against zombie runs, deployments."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings
from prefect.workers.process import ProcessWorker

from flows.server_home import ServerError, client_environment

PREFECT_FILE = Path(__file__).with_name("prefect.yaml")
WORK_POOL = "local-process"
GPU_LIMIT = "gpu"
ZOMBIES = "Crash runs without heartbeat"
# Heartbeats come every 30 s: two may be lost.
HEARTBEAT_LOST = timedelta(seconds=90)


def prepare(url: str) -> None:
    """Make the work pool, the limit of one GPU stage at a time and the zombie automation, where they are missing."""
    with temporary_settings({"api.url": url}), get_client(sync_client=True) as client:
        _make_pool(client)
        _make_gpu_limit(client)
        if not client.read_automations_by_name(ZOMBIES):
            client.create_automation(_zombie_automation())


def deploy_all(home: Path, url: str, prefect_file: Path = PREFECT_FILE, start: str | None = None) -> None:
    """Register every deployment of the file; `start` is the command that starts a run, if not Prefect's own.

    Raises `ServerError` with Prefect's answer if one is refused.
    """
    command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)]
    environment = client_environment(home, url) | {"DLSIA_FLOWS_FOLDER": str(Path.cwd())}
    if start:
        environment["DLSIA_FLOWS_START"] = start
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise ServerError(f"the deployments of {prefect_file} were refused:\n{done.stdout}{done.stderr}")


def _make_pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))


def _make_gpu_limit(client: SyncPrefectClient) -> None:
    try:
        client.read_global_concurrency_limit_by_name(GPU_LIMIT)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=1))


def _zombie_automation() -> AutomationCore:
    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name=ZOMBIES,
        description="The process and its worker were killed, or their machine stopped; nobody else would say so.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ends)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=HEARTBEAT_LOST,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message=f"No sign of life for {HEARTBEAT_LOST.seconds} s. Run it again: finished shards are kept.",
                force=False,
            )
        ],
    )
