"""The little arithmetic that the benchmarks need."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Nearest rank of a sorted sequence; NaN of an empty one."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
