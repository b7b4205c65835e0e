"""Runs flows again and again, each time in a process of its own, which may be killed.

Imports take five seconds and compiling UMAP ten, so they are done once, here, and each run is a fork of this process.
Each line on standard input is JSON: {"flow": name, "arguments": of the flow, "log": path}. Answers on standard output:
a line with the process id, and when that process has ended, a line with its exit status (-9: killed), what the flow
returned or raised, and the most memory that the process had.
"""

import json
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dlsia_core.latent import umap_coordinates
from flows.compare_inpainting import compare_inpainting
from flows.follow_scan import follow_scan
from flows.ingest_scan import ingest_scan
from flows.plan_scan import plan_scan
from flows.process_beamtime import process_beamtime
from flows.process_scan import process_scan
from flows.prune_scans import prune_scans
from flows.segment_volume import segment_volume
from flows.study_latent_space import study_latent_space
from flows.sweep_inpainting import sweep_inpainting
from flows.train_inpainting import train_inpainting
from flows.train_segmentation import train_segmentation

FLOWS = {
    "process_scan": process_scan,
    "process_beamtime": process_beamtime,
    "ingest_scan": ingest_scan,
    "follow_scan": follow_scan,
    "plan_scan": plan_scan,
    "prune_scans": prune_scans,
    "train_inpainting": train_inpainting,
    "train_segmentation": train_segmentation,
    "compare_inpainting": compare_inpainting,
    "sweep_inpainting": sweep_inpainting,
    "segment_volume": segment_volume,
    "study_latent_space": study_latent_space,
}

LOGGED = {"tasks": logging.INFO, "prefect.task_runs": logging.DEBUG}
"""Loggers that tell which stage is under way."""


def run(flow: str, arguments: dict[str, Any], log: str) -> dict[str, Any]:
    handler = logging.FileHandler(log, mode="w")
    for name, level in LOGGED.items():
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).addHandler(handler)
    try:
        return {"result": FLOWS[flow](**arguments).model_dump(mode="json")}
    except Exception as error:
        logging.getLogger("tasks").exception("the flow failed")
        return {"error": type(error).__name__, "message": str(error)}


def main() -> None:
    umap_coordinates(np.random.default_rng(0).random((20, 4), dtype=np.float32))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        answer = Path(request["log"] + ".answer")
        answer.unlink(missing_ok=True)
        if not (child := os.fork()):
            found = run(**request)
            peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            answer.write_text(json.dumps({**found, "peak_bytes": peak_bytes}))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        found = json.loads(answer.read_text()) if answer.exists() else {}
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status), **found}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
