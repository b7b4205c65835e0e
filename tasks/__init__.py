"""Stages: one file each, a shell around `dlsia_core` that reads and writes a scan store."""
