"""Typed settings: frozen, every field explained with its unit, unknown keys refused."""

from tasks.settings.base import Settings
from tasks.settings.paths import confine

__all__ = ["Settings", "confine"]
