"""Asking the running daemon, over its control socket. Standard library only: commands start at once."""

from __future__ import annotations

from scheduler.client.client import Client
from scheduler.client.connection import Answer
from scheduler.client.stream import Happening, Happenings

__all__ = ["Answer", "Client", "Happening", "Happenings"]
