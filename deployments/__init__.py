"""Deployments: what serves the flows on a machine, and the simulated beamtime."""
