"""Flows: one file, one flow, one deployment; a flow is a list of stages that reads top to bottom."""

import os

# Before Prefect is imported anywhere: its SDK would report home from interactive terminals.
os.environ.setdefault("DO_NOT_TRACK", "1")
