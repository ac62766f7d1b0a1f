"""The layers of definitions, from the package, the desk's directory and the state directory."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from scheduler.core.marketspec import AMENDMENT, DESK, INDIA, MarketsFile
from scheduler.marketfile.amendments import amendments_file
from scheduler.marketfile.layer import Layer
from scheduler.yamlfile import is_there, parse

MARKETS_FILE: Final = "markets.yaml"


def read_markets(configuration: Path) -> MarketsFile:
    """The India overlay and ``markets.yaml`` of a directory, on which ``amended`` lays a third layer.

    A file that is absent counts as empty; ``problems`` has every mistake of one that is not.
    """
    path = configuration / MARKETS_FILE
    desk = Layer(DESK)
    return _combine(desk.read(path) if is_there(path) else desk)


def parse_markets(text: str, filename: str = MARKETS_FILE) -> MarketsFile:
    """The same from the text of a markets.yaml."""
    return _combine(Layer(DESK).parse(text, filename))


def amended(markets: MarketsFile, state: Path, text: str | None = None) -> MarketsFile:
    """The same with the amendments in a state directory, or with those in ``text`` instead."""
    path, layer = amendments_file(state), Layer(AMENDMENT)
    if text is not None:
        layer.parse(text, str(path))
    elif is_there(path):
        layer.read(path)
    layers, problems = (*markets.layers, layer.markets), (*markets.problems, *layer.problems)
    return replace(markets, layers=layers, problems=problems)


@cache
def read_overlay() -> Layer:
    """What the package knows of the Indian markets; problems only if the package is broken."""
    return Layer(INDIA).parse(packaged("india.yaml"), "india.yaml")


def read_provisional() -> dict[str, tuple[date, str]]:
    """When holidays are expected that are not announced, with the source, by name."""
    rows = parse(packaged("provisional.yaml"), "provisional.yaml").plain()["markets"]["NSE"]["changes"]
    return {row["name"]: (date.fromisoformat(day), row["source"]) for day, row in rows.items()}


def packaged(name: str) -> str:
    """The text of a data file of the package."""
    return resources.files("scheduler.calendars").joinpath(name).read_text(encoding="utf-8")


def markets_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of markets.yaml, for editors."""
    text = resources.files("scheduler.marketfile").joinpath("schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _combine(desk: Layer) -> MarketsFile:
    india = read_overlay()
    problems = (*india.problems, *desk.problems)
    return MarketsFile((india.markets, desk.markets), desk.default or "NSE", desk.default_mark, problems)
