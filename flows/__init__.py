"""Flows: one file, one flow, one deployment; a flow is a list of stages that reads top to bottom."""
