"""What is behind `make run` and `make serve`.

python -m deployments.launch run [--data FOLDER]      process a scan through a real deployment run
python -m deployments.launch serve [--watch FOLDER]   leave server and worker running until Ctrl-C
"""

import argparse
import hashlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.settings import temporary_settings

from deployments.registration import PREFECT_FILE, deploy_all, prepare
from deployments.worker import prepared_start, running_worker
from flows.embedded_server import client_settings, running_server
from flows.server_home import announce, home_folder, withdraw
from tasks.errors import PipelineError, SourceError
from tasks.readers import find_files

SIMULATED_FRAMES = 40
PROCESS_SCAN = "process-scan/process-scan"
WATCH = "watch-beamtime/watch-beamtime"
POLL_S = 0.5
LOOK_EVERY_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; return 0 if what was asked for was done."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Python's own handler: a shell that starts a program in the background leaves SIGINT ignored.
        signal.signal(number, signal.default_int_handler)
    try:
        return int(options.action(options))
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped")
        return 0 if options.action is serve else 130


def run(options: argparse.Namespace) -> int:
    """Process one scan and say where its results are."""
    folder = Path.cwd() / "run"
    source, store = _given(options.data, folder) if options.data else _simulated(folder)
    with running_deployments(options.prefect_file) as url:
        final = follow(PROCESS_SCAN, {"source": source, "store": str(store)})
        state = final.state
        print(f"\nprocess-scan, run {final.name}: {state.name if state else 'unknown'}")
        if state and state.message:
            print(f"  {state.message}")
        print(f"  source  {source}\n  store   {store}")
        for report in _reports(store):
            print(f"  report  {report}")
        print(f"  UI      `make serve` shows this run at {url.removesuffix('/api')}")
    return 0 if state and state.is_completed() else 1


def serve(options: argparse.Namespace) -> int:
    """Leave server and worker running until a signal comes."""
    watched = checked_folder(options.watch) if options.watch else None
    home, here = home_folder(), Path.cwd()
    with running_deployments(options.prefect_file, many_runs=True) as url:
        found = announce(home, url, here)
        try:
            print(f"\nPrefect UI  {url.removesuffix('/api')}\nStop with Ctrl-C. To try, in another terminal in {here}:")
            print(f"  {_prefect()} deployment run '{PROCESS_SCAN}' -p source=FOLDER -p store=PATH.zarr --watch")
            print(f"  {_prefect()} deployment run '{WATCH}' -p folder=FOLDER -p stores=FOLDER")
            if not found:
                print(f"{here / 'prefect.toml'} is yours and was left alone: first `export PREFECT_API_URL={url}`")
            if not watched:
                sys.stdout.flush()
                while True:
                    signal.pause()
            results = here / "run" / "results"
            parameters = {"folder": str(watched), "stores": str(results)}
            started = start_run(WATCH, parameters)
            print(f"Watching {watched} (run {started.name}); results go to {results}", flush=True)
            while True:
                time.sleep(LOOK_EVERY_S)
                started = watched_on(started, parameters)
        finally:
            withdraw(home)


@contextmanager
def running_deployments(prefect_file: Path = PREFECT_FILE, *, many_runs: bool = False) -> Iterator[str]:
    """Yield the API address of a server that knows the deployments of the file and has a worker for them.

    many_runs: start them from a prepared process; a single run would only wait for it.
    """
    with ExitStack() as stack:
        url = stack.enter_context(running_server())
        stack.enter_context(temporary_settings(client_settings(url)))
        prepare(url)
        start = stack.enter_context(prepared_start(home_folder(), url)) if many_runs else None
        stack.enter_context(running_worker(home_folder(), url))
        deploy_all(home_folder(), url, prefect_file, start)
        yield url


def start_run(deployment: str, parameters: dict[str, Any]) -> FlowRun:
    """Make a run of the deployment; the worker starts it."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters)


def watched_on(started: FlowRun, parameters: dict[str, Any]) -> FlowRun:
    """Return the watcher's run, or a new one where it was killed or has failed; a cancelled one is left so.

    The next watcher catches up on what came in the meantime, and starts nothing twice.
    """
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(started.id).state
        if state is None or not (state.is_crashed() or state.is_failed()):
            return started
        again = start_run(WATCH, parameters)
    except (OSError, HTTPError, PrefectException):
        return started  # the server is away for a moment
    print(f"the watcher ended ({state.name}: {state.message}); run {again.name} goes on", flush=True)
    return again


def follow(deployment: str, parameters: dict[str, Any]) -> FlowRun:
    """Start a run and return it when it has ended; the worker writes its log to the terminal meanwhile."""
    flow_run = start_run(deployment, parameters)
    print(f"{deployment}: run {flow_run.name} is made", flush=True)
    shown: str | None = None
    with get_client(sync_client=True) as client:
        while True:
            flow_run = client.read_flow_run(flow_run.id)
            if flow_run.state and flow_run.state.name != shown:
                shown = flow_run.state.name
                print(f"{deployment}: {shown}", flush=True)
            if flow_run.state and flow_run.state.is_final():
                return flow_run
            time.sleep(POLL_S)


def checked_folder(path: str) -> Path:
    """Return the folder, absolute; raises `SourceError` if it is none."""
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise SourceError(f"{path!r} is not a folder (looked for {folder}); give a folder that exists")
    return folder


def _given(data: str, folder: Path) -> tuple[str, Path]:
    """Return source and store for the user's own frames; raises `SourceError` if there are none."""
    find_files(data)
    source = str(Path(data).expanduser().absolute())
    # A few characters tell folders of the same name apart.
    short = hashlib.sha256(source.encode()).hexdigest()[:6]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).name).strip("-.") or "scan"
    return source, folder / "results" / f"{name}-{short}.zarr"


def _simulated(folder: Path) -> tuple[str, Path]:
    """Write a simulated scan, unless a former run has; returns source and store."""
    source = folder / "beamtime" / "simulated"
    if source.is_dir() and sum(1 for _ in source.iterdir()) >= SIMULATED_FRAMES:
        print(f"simulated scan: {source} is there already")
    else:
        print(f"simulated scan: writing {SIMULATED_FRAMES} frames to {source}", flush=True)
        command = [sys.executable, "-m", "deployments.simulated_beamtime", str(source)]
        if subprocess.run([*command, "--frames", str(SIMULATED_FRAMES), "--seed", "0"]).returncode:
            raise SourceError(f"the simulated scan could not be written to {source}; its own message is above")
    return str(source), folder / "results" / "simulated.zarr"


def _reports(store: Path) -> list[Path]:
    return [*sorted(store.glob("*.html")), *sorted(store.parent.glob(f"{store.stem}*.html"))]


def _prefect() -> str:
    program = Path(sys.executable).with_name("prefect")
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.launch", description="Run or serve the deployments.")
    parser.add_argument("--prefect-file", type=Path, default=PREFECT_FILE, help="deployments to register")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="process a scan, then stop")
    one.add_argument("--data", help="folder of detector files; without it a simulated scan is written first")
    one.set_defaults(action=run)
    many = commands.add_parser("serve", help="leave server and worker running until Ctrl-C")
    many.add_argument("--watch", help="beamtime folder to watch for new scans")
    many.set_defaults(action=serve)
    return parser


if __name__ == "__main__":
    sys.exit(main())
