"""``python -m scheduler`` is the command ``scheduler``."""

from __future__ import annotations

from scheduler.cli import main

main()
