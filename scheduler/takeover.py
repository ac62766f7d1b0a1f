"""A configuration takes over: what has to be known before, and what the ledger is to expect then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from scheduler.configuration import Configuration
from scheduler.core.definition import definition_text, fingerprint
from scheduler.core.messages import Instant, TaskHistory, TaskSpec
from scheduler.core.triggers import KeepRunning
from scheduler.core.wording import encodable
from scheduler.executors import Executors, TargetError
from scheduler.ledger import Ledger


class Known(NamedTuple):
    """What takes a while to find out: imports, and questions to the ledger."""

    refused: Mapping[str, str]  # task -> why its callable cannot be imported
    defined: Mapping[str, str]  # task -> fingerprint
    histories: Mapping[str, TaskHistory]  # of all tasks at the start, of loops for a reload


def find_out(
    configuration: Configuration, now: Instant, executors: Executors, ledger: Ledger, *, first: bool = False
) -> Known:
    """For the ``first`` configuration of a daemon, or a later one. In any thread."""
    refused = {}
    for spec in configuration.specs:
        try:
            executors.choose(spec)
        except TargetError as error:
            refused[spec.name] = encodable(str(error))
    specs = enabled(configuration)
    loops = _stretches(configuration, specs, now)
    asked = [spec.name for spec in specs] if first else list(loops)
    histories = ledger.task_histories(asked, now, loops) if first or loops else {}
    return Known(refused, ledger.defined(), histories)


def enabled(configuration: Configuration) -> list[TaskSpec]:
    return [spec for spec in configuration.specs if spec.enabled]


def first_histories(configuration: Configuration, known: Known, now: Instant) -> dict[str, TaskHistory]:
    """At the start. What was due before a change of its definition is not the new task's."""
    histories = dict(known.histories)
    for spec in enabled(configuration):
        if known.defined.get(spec.name) != fingerprint(spec):
            histories[spec.name] = histories[spec.name]._replace(expected_from=now)
    return histories


def later_histories(
    configuration: Configuration, known: Known, tasks: Collection[str], now: Instant
) -> dict[str, TaskHistory]:
    """At a reload of these ``tasks``: new ones are expected from now on, but may have been here before."""
    asked = [
        spec
        for spec in enabled(configuration)
        if spec.name not in tasks or isinstance(spec.trigger, KeepRunning)
    ]
    histories = {spec.name: TaskHistory(now + 1) for spec in asked}
    for name, due in _stretches(configuration, asked, now).items():
        begun = known.histories[name].begun if name in known.histories else None
        if begun is not None and begun[0] == due:  # else the stretch has begun since it was asked for
            histories[name] = TaskHistory(now + 1, begun=begun)
    return histories


def expect(ledger: Ledger, configuration: Configuration, defined: Collection[str], now: Instant) -> None:
    """Tell the ledger which runs to expect from now on; ``defined``: of which tasks it did before."""
    specs: Sequence[TaskSpec] = enabled(configuration)
    for spec in specs:
        calendar = configuration.tables[spec.market].version
        ledger.definition_started(spec.name, now, fingerprint(spec), definition_text(spec), calendar)
    for name in set(defined) - {spec.name for spec in specs}:
        ledger.definition_ended(name, now)


def _stretches(configuration: Configuration, specs: Iterable[TaskSpec], now: Instant) -> dict[str, Instant]:
    """When the latest stretch of each loop among these began."""
    loops = {}
    for spec in specs:
        if isinstance(spec.trigger, KeepRunning):
            begun = spec.trigger.last_before(now + 1, configuration.tables[spec.market])
            if begun is not None:
                loops[spec.name] = begun
    return loops
