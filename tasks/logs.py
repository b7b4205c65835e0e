"""Log lines that show in the Prefect UI and the terminal inside a run, and through `logging` everywhere else."""

import logging

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


def logger_of(name: str) -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The logger of the flow or task run that is under way in this thread, or the module's own where there is none."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(name)
