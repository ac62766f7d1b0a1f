"""The control plane of one daemon: its socket, and what the API may ask of the daemon, by subject."""

from __future__ import annotations

from scheduler.control.plane import ControlPlane

__all__ = ["ControlPlane"]
