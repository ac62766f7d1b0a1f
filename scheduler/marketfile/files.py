"""The layers of definitions, from the package, the desk's directory and the state directory."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from scheduler.core.marketspec import AMENDMENT, DESK, INDIA, MarketsFile
from scheduler.marketfile.layer import Layer

MARKETS_FILE: Final = "markets.yaml"
AMENDMENTS_FILES: Final = ("amendments.yaml", "amendments.json")


def read_markets(configuration: Path, state: Path | None = None) -> MarketsFile:
    """The India overlay, ``markets.yaml`` of a directory and the amendments in a state directory.

    Files that are absent count as empty; ``problems`` has every mistake of those that are not.
    """
    desk = configuration / MARKETS_FILE
    amendments = [state / name for name in AMENDMENTS_FILES] if state else []
    return _combine(
        [
            read_overlay(),
            Layer(DESK).read(desk) if desk.exists() or desk.is_symlink() else Layer(DESK),
            *(Layer(AMENDMENT).read(path) for path in amendments if path.exists()),
        ]
    )


def parse_markets(text: str, filename: str = MARKETS_FILE, amendments: str = "") -> MarketsFile:
    """The same from the text of a markets.yaml (and of an amendments file)."""
    layers = [read_overlay(), Layer(DESK).parse(text, filename)]
    if amendments:
        layers.append(Layer(AMENDMENT).parse(amendments, AMENDMENTS_FILES[0]))
    return _combine(layers)


@cache
def read_overlay() -> Layer:
    """What the package knows of the Indian markets; problems only if the package is broken."""
    text = resources.files("scheduler.calendars").joinpath("india.yaml").read_text(encoding="utf-8")
    return Layer(INDIA).parse(text, "india.yaml")


def markets_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of markets.yaml, for editors."""
    text = resources.files("scheduler.marketfile").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _combine(layers: list[Layer]) -> MarketsFile:
    default, mark = "NSE", None
    for layer in layers:
        if layer.default is not None:
            default, mark = layer.default, layer.default_mark
    problems = [problem for layer in layers for problem in layer.problems]
    return MarketsFile(tuple(layer.markets for layer in layers), default, mark, tuple(problems))
