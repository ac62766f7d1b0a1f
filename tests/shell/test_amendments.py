from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scheduler import amending, offline
from scheduler.calendars import Built, Calendars
from scheduler.configuration import FileLoader, Window
from scheduler.errors import ConfigurationError, UsageError
from scheduler.marketfile import (
    AmendmentsLock,
    Changes,
    amended,
    amendments_file,
    amendments_text,
    parse_markets,
    read_changes,
    read_trail,
)
from scheduler.settings import Settings
from tests.helpers import instant
from tests.shell.markets import row_of

NOW = instant("2026-11-23T15:16:50+05:30")
TASKS = """
tasks:
  market-monitoring: {command: ["true"], priority: critical}
  derivatives: {command: ["true"], market: NSE-FO, every: 1h}
"""


@pytest.fixture(scope="module")
def calendars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calendars")


@pytest.fixture
def settings(tmp_path: Path, calendars: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A desk whose state directory holds nothing but the answers of the calendars' child."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    config, state = tmp_path / "config", tmp_path / "state"
    config.mkdir()
    state.mkdir()
    (state / "calendars").symlink_to(calendars)
    (config / "tasks.yaml").write_text(TASKS)
    return Settings(config_dir=config, state_dir=state)


def amend(settings: Settings, market: str, day: str, **options: Any) -> amending.Outcome:
    """With the options of the command line; without `closed` and `hours` a revert."""
    given = {"closed": False, "hours": None, "name": None, "reason": "", **options}
    return amending.amend(settings, amending.wish(market, day, **given), NOW)


def row(settings: Settings, day: str, market: str = "NSE") -> dict[str, Any]:
    return row_of(FileLoader(settings)(Window.around(NOW)).tables[market], day)


# The file.


@pytest.mark.parametrize(
    "change",
    [
        {"closed": True},
        {"closed": True, "name": "no", "note": "0o17", "by": "1e5", "at": "~"},
        {"open": ["09:15..11:40", "15:45..17:00"], "name": 'दिवाली: "Muhurat" # {1, 2} 🪔'},
        {"open": "ordinary", "phases": {"pre-open": ["open-5m..open"]}},
        {"open": "unknown", "settled": "low", "source": "a circular"},
    ],
)
def test_what_is_written_is_read_again(change: dict[str, Any], tmp_path: Path) -> None:
    changes: Changes = {"NSE": {"2026-11-25": change, "2026-12-01..2026-12-04": {"name": "Week"}}, "CDS": {}}
    file = amendments_file(tmp_path)
    file.parent.mkdir()
    file.write_text(amendments_text(changes))
    assert read_changes(tmp_path) == {"NSE": changes["NSE"]}
    markets = amended(parse_markets("default: NSE"), tmp_path)
    assert markets.problems == ()
    assert [str(found.first) for found in markets.layers[-1]["NSE"].changes] == ["2026-12-01", "2026-11-25"]


def test_no_amendments_are_a_good_file_too(tmp_path: Path) -> None:
    assert read_changes(tmp_path) == {}
    assert amended(parse_markets("default: NSE"), tmp_path, amendments_text({"NSE": {}})).problems == ()


@pytest.mark.parametrize("text", ["default: MCX", "markets: {NSE: {weekdays: mon-sat}}"])
def test_an_operator_changes_dates_and_nothing_else(text: str, tmp_path: Path) -> None:
    (problem,) = amended(parse_markets("default: NSE"), tmp_path, text).problems
    assert "unknown key" in problem.message
    assert str(problem).startswith(f"{amendments_file(tmp_path)}:1:")


def test_operators_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        with AmendmentsLock(tmp_path) as lock:
            changes = read_changes(tmp_path)
            changes.setdefault("NSE", {})[f"2026-12-{number:02}"] = {"closed": True}
            lock.keep(amendments_text(changes), {"date": str(number)})

    operators = [threading.Thread(target=add, args=(number,)) for number in range(1, 21)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    assert len(read_changes(tmp_path)["NSE"]) == len(read_trail(tmp_path)) == 20
    assert sorted(path.name for path in amendments_file(tmp_path).parent.iterdir()) == [
        "amendments.log", "amendments.yaml",
    ]  # fmt: skip


def test_what_could_not_be_put_in_force_is_not_in_the_trail_either(tmp_path: Path) -> None:
    with AmendmentsLock(tmp_path) as lock:
        lock.keep(amendments_text({}), {"date": "first"})
        amendments_file(tmp_path).unlink()
        amendments_file(tmp_path).mkdir()  # nothing can be moved over it
        with pytest.raises(IsADirectoryError):
            lock.keep(amendments_text({}), {"date": "second"})
    assert [entry["date"] for entry in read_trail(tmp_path)] == ["first"]
    assert not list(amendments_file(tmp_path).parent.glob("*.new"))


def test_a_line_of_the_trail_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    with AmendmentsLock(tmp_path) as lock:
        lock.keep("", {"date": "first"})
    trail = amendments_file(tmp_path).with_suffix(".log")
    trail.write_bytes(trail.read_bytes() + b'{"date": "sec\xff\n[]\n{"date": "third"}\n')
    assert [entry["date"] for entry in read_trail(tmp_path)] == ["first", "third"]


@pytest.mark.parametrize("place", ["amendments.log", "amendments.yaml.new"])
def test_no_link_in_the_daemons_directory_leads_root_elsewhere(place: str, tmp_path: Path) -> None:
    """What is written, and whose it is, would else be for the daemon's user to choose."""
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    directory = amendments_file(tmp_path).parent
    directory.mkdir()
    for make in (Path.symlink_to, Path.hardlink_to):
        make(directory / place, precious)
        with suppress(OSError), AmendmentsLock(tmp_path) as lock:
            lock.keep(amendments_text({}), {"date": "first"})
        (directory / place).unlink(missing_ok=True)
        assert precious.read_text() == "as it was"
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=str(directory)), AmendmentsLock(tmp_path):
        pass


@pytest.mark.parametrize(
    "text", ["markets: []", "markets: {NSE: }", "markets: {NSE: {changes: {2026-11-25: }}}"]
)
def test_a_file_that_says_nothing_where_it_should_is_told_with_its_place(text: str, tmp_path: Path) -> None:
    file = amendments_file(tmp_path)
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"{file}:1:\d+: .* must be a map"):
        read_changes(tmp_path)
    for nothing in ("markets:", "markets: {NSE: {changes: }}"):
        file.write_text(nothing)
        assert not any(read_changes(tmp_path).values())


# Whose it is.

USER = 54_321
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


@contextmanager
def as_user() -> Iterator[None]:
    """As the user of a daemon."""
    os.setegid(USER)
    os.seteuid(USER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def daemons() -> Iterator[Settings]:
    """A desk whose state directory is another user's, at a place that this user can get at."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        config, state = Path(home) / "config", Path(home) / "state"
        for directory in (config, state):
            directory.mkdir()
            directory.chmod(0o755)
        (config / "tasks.yaml").write_text(TASKS)
        os.chown(state, USER, USER)
        yield Settings(config_dir=config, state_dir=state)


@only_root
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_root_amends_the_daemons_user_can_read_and_amend(umask: int, daemons: Settings) -> None:
    before = os.umask(umask)
    try:
        amend(daemons, "NSE", "2026-11-25", closed=True)
    finally:
        os.umask(before)
    directory = amendments_file(daemons.state_dir).parent
    for path, mode in ((directory, 0o755), *((file, 0o644) for file in directory.iterdir())):
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (mode, USER, USER), path
    calendars = daemons.state_dir / "calendars"
    assert {path.stat().st_uid for path in (calendars, *calendars.iterdir())} == {USER}
    with as_user():
        loaded = FileLoader(daemons)(Window.around(NOW))
        assert [entry["date"] for entry in loaded.trail or ()] == ["2026-11-25"]
        assert amend(daemons, "NSE", "2026-11-25").lines[0].startswith("NSE 2026-11-25: taken back")


@only_root
def test_an_amendment_by_root_gives_back_what_an_earlier_one_took(daemons: Settings) -> None:
    directory = amendments_file(daemons.state_dir).parent
    directory.mkdir(mode=0o700)
    for name in ("amendments.log", "amendments.yaml"):
        (directory / name).write_text("")
        (directory / name).chmod(0o600)
    with AmendmentsLock(daemons.state_dir) as lock:
        lock.keep(amendments_text({}), {"date": "first"})
    with as_user(), AmendmentsLock(daemons.state_dir) as lock:
        lock.keep(amendments_text({}), {"date": "second"})
        assert [entry["date"] for entry in read_trail(daemons.state_dir)] == ["first", "second"]


@only_root
def test_a_trail_that_cannot_be_read_is_a_warning_and_no_reason_to_refuse(daemons: Settings) -> None:
    amend(daemons, "NSE", "2026-11-25", closed=True)
    trail = amendments_file(daemons.state_dir).with_suffix(".log")
    os.chown(trail, 0, 0)
    trail.chmod(0o600)
    loader = FileLoader(daemons)
    with as_user():
        loaded = loader(Window.around(NOW))
    assert loaded.trail is None
    assert [warning for warning in loaded.warnings if "amendments.log: Permission denied" in warning]
    assert not row_of(loaded.tables["NSE"], "2026-11-25")["open"], "it applies all the same"
    known = loader(Window.around(NOW)).trail
    with as_user():
        assert loader(Window.around(NOW)).trail == known, "what was read before is known still"


@only_root
def test_amendments_that_cannot_be_read_are_not_taken_for_none(daemons: Settings) -> None:
    amend(daemons, "NSE", "2026-11-25", closed=True)
    file = amendments_file(daemons.state_dir)
    for path, mode in ((file, 0o600), (file.parent, 0o700)):
        os.chown(path, 0, 0)
        path.chmod(mode)
        with as_user(), pytest.raises(ConfigurationError, match=r"amendments\.yaml.*Permission denied"):
            FileLoader(daemons)(Window.around(NOW))


# The command.


def test_a_holiday_is_laid_over_every_market_that_is_like_it_and_told_in_runs(settings: Settings) -> None:
    outcome = amend(settings, "NSE", "2026-11-25", closed=True, name="State funeral", reason="circular 99")
    assert outcome.warnings == []
    state = settings.state_dir
    assert outcome.lines[:-1] == [
        "NSE 2026-11-25: closed, State funeral",
        "2026-11-25 market-monitoring: -4500 open, +375 closed",
    ]
    assert outcome.lines[-1] == (
        f"kept in {amendments_file(state)}, reaches BSE, CDS, NSE, NSE-CAS, NSE-FO; "
        f"no daemon runs with {state}; the next one to start takes it"
    )
    for market in ("NSE", "NSE-FO"):
        found = row(settings, "2026-11-25", market)
        assert (found["open"], found["reason"], found["layer"]) == (False, "State funeral", "amendment")


def test_who_changed_what_and_when_is_on_record(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True, reason="circular 99")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "asha")
    monkeypatch.setenv("SUDO_UID", "1042")
    amend(settings, "NSE", "2026-11-25")
    first, second = read_trail(settings.state_dir)
    at = {"at": "2026-11-23T15:16:50+05:30", "market": "NSE", "date": "2026-11-25", "change": "closed"}
    assert first == {**at, "action": "amend", "by": first["by"], "reason": "circular 99"}
    assert f"(uid {os.geteuid()})" in first["by"]
    assert second == {**at, "action": "revert", "by": "asha (uid 1042, by sudo)"}


def test_what_sudo_says_is_not_believed_from_others(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    monkeypatch.setenv("SUDO_USER", "asha")
    monkeypatch.setenv("SUDO_UID", "1042")
    amend(settings, "NSE", "2026-11-25", closed=True)
    assert read_trail(settings.state_dir)[0]["by"] == "uid 54321"


def test_a_second_change_of_a_date_takes_the_place_of_the_first_and_says_so(settings: Settings) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True, name="State funeral")
    outcome = amend(settings, "NSE", "2026-11-25", hours="09:15..11:40, 15:45..17:00")
    assert outcome.lines[0] == "NSE 2026-11-25: open 09:15..11:40,15:45..17:00"
    assert outcome.lines[1].startswith("in the place of: closed, State funeral (")
    assert [one["phase"] for one in row(settings, "2026-11-25")["phases"]].count("open") == 2
    assert [one["change"] for one in amending.amendments(settings)] == ["open 09:15..11:40,15:45..17:00"]


def test_the_same_change_again_changes_no_calendar(settings: Settings) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True)
    assert (
        "amendments.yaml, changes no calendar; no daemon runs"
        in (amend(settings, "NSE", "2026-11-25", closed=True).lines[-1])
    )


def test_a_revert_takes_it_back_and_says_what(settings: Settings) -> None:
    usual = row(settings, "2026-11-25")
    amend(settings, "NSE", "2026-11-26", closed=True)
    amend(settings, "NSE", "2026-11-25", closed=True)
    outcome = amend(settings, "NSE", "2026-11-25")
    assert outcome.lines[0].startswith("NSE 2026-11-25: taken back: closed (")
    assert "2026-11-25 market-monitoring: +4500 open, -375 closed" in outcome.lines
    assert row(settings, "2026-11-25") == usual
    with pytest.raises(UsageError, match="no amendment of NSE on 2026-11-25; there are NSE 2026-11-26"):
        amend(settings, "NSE", "2026-11-25")


def test_hand_edits_of_the_file_are_kept(settings: Settings) -> None:
    file = amendments_file(settings.state_dir)
    file.parent.mkdir()
    file.write_text("markets: {MCX: {changes: {2026-12-01: {name: Mine, phases: {desk: 10:00..11:00}}}}}\n")
    amend(settings, "NSE", "2026-11-25", closed=True)
    assert read_changes(settings.state_dir)["MCX"] == {
        "2026-12-01": {"name": "Mine", "phases": {"desk": "10:00..11:00"}}
    }


def test_the_amendments_in_force_are_listed_with_their_authors(settings: Settings) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True, name="State funeral", reason="circular 99")
    [found] = amending.amendments(settings)
    assert found == {
        "market": "NSE", "date": "2026-11-25", "change": "closed, State funeral", "by": found["by"],
        "at": "2026-11-23T15:16:50+05:30", "note": "circular 99",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("market", "day", "options", "message"),
    [
        ("NSEE", "2026-11-25", {"closed": True}, "no market and no calendar 'NSEE'; did you mean 'NSE'"),
        ("NSE", "2026-13-25", {"closed": True}, "'2026-13-25' is not a date"),
        ("NSE", "20261214", {"closed": True}, "'20261214' is not a date; write 2026-11-25"),
        ("NSE", "2026-W51-1", {"closed": True}, "'2026-W51-1' is not a date; write 2026-11-25"),
        ("NSE", "2062-11-25", {"closed": True}, "more than a year away from today, 2026-11-23"),
        ("NSE", "2026-11-25", {"hours": "09:15-11:40"}, "'09:15-11:40' is not an interval; write A..B"),
        ("NSE", "2026-11-25", {"hours": "ordinry"}, "or ordinary, or unknown"),
        ("NSE", "2026-11-25", {"closed": True, "name": "a\nb"}, "--name: .* cannot be printed"),
    ],
)
def test_a_wrong_call_changes_nothing(
    market: str, day: str, options: dict[str, Any], message: str, settings: Settings
) -> None:
    with pytest.raises(UsageError, match=message):
        amend(settings, market, day, **options)
    assert not amendments_file(settings.state_dir).exists()


@pytest.mark.parametrize(
    ("tasks", "hours", "message"),
    [
        (TASKS, "09:15..11:40,11:00..17:00", "NSE 2026-11-25: 11:00..17:00 begins before"),
        (TASKS, "09:15..lunch.start", "NSE 2026-11-25: NSE has no phase 'lunch'"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_without_a_place_in_a_file_nobody_wrote(
    tasks: str, hours: str, message: str, settings: Settings
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        amend(settings, "NSE", "2026-11-25", hours=hours)
    problems = [str(problem) for problem in caught.value.problems]
    assert problems[0].startswith(message)
    assert problems[-1] == "nothing was changed"
    assert not amendments_file(settings.state_dir).exists()
    assert read_trail(settings.state_dir) == ()


def test_a_date_that_is_past_and_a_session_over_midnight_are_warned_of(settings: Settings) -> None:
    past = amend(settings, "NSE", "2026-11-20", closed=True)
    assert past.warnings == ["2026-11-20 is past: calendar and plan show it, no run is affected"]
    assert "no run is added, removed or moved" in past.lines
    late = amend(settings, "NSE", "2026-11-25", hours="17:00..09:00")
    assert late.warnings == ["the session of NSE 2026-11-25 ends on a later day; is that meant?"]
    evening = amend(settings, "NSE", "2026-11-25", hours="17:00..00:00")
    assert evening.warnings == []


def test_a_calendar_of_another_exchange_can_be_amended_too(settings: Settings) -> None:
    assert "XNYS 2026-11-25: closed" in amend(settings, "XNYS", "2026-11-25", closed=True).lines
    [found] = offline.calendar(settings, "XNYS", "2026-11-25", "2026-11-26")
    assert (found["open"], found["layer"]) == (False, "amendment")


def test_a_mistake_in_the_desks_files_does_not_keep_an_operator_from_amending(settings: Settings) -> None:
    """At 15:17 the close is moved, and somebody has just saved half a sentence into tasks.yaml."""
    loader = FileLoader(settings)
    loader(Window.around(NOW))
    loader.keep_accepted()
    tasks = settings.config_dir / "tasks.yaml"
    tasks.write_text("tasks: {a: {}}\n")
    outcome = amend(settings, "NSE", "2026-11-23", hours="09:15..17:00")
    assert outcome.warnings[0].startswith(f"{tasks}:1:")
    assert "checked with the files in force" in outcome.warnings[-1]
    assert "2026-11-23 market-monitoring: +1080 open, -90 closed" in outcome.lines
    assert read_changes(settings.state_dir)["NSE"].keys() == {"2026-11-23"}


def test_without_files_in_force_such_a_mistake_is_reported(settings: Settings) -> None:
    (settings.config_dir / "tasks.yaml").write_text("tasks: {a: {}}\n")
    with pytest.raises(ConfigurationError, match=r"tasks\.yaml:1:"):
        amend(settings, "NSE", "2026-11-25", closed=True)


# What others make of it.


def test_amendments_that_others_can_write_are_refused(settings: Settings) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True)
    file = amendments_file(settings.state_dir)
    assert file.stat().st_mode & 0o777 == 0o644
    file.chmod(0o666)
    with pytest.raises(ConfigurationError, match="can be written by every user"):
        FileLoader(settings)(Window.around(NOW))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_amendments_may_belong_to_the_owner_of_the_state_directory(settings: Settings) -> None:
    """Root asks about the daemon of another user."""
    amend(settings, "NSE", "2026-11-25", closed=True)
    file = amendments_file(settings.state_dir)
    os.chown(file, 54_321, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 54321"):
        FileLoader(settings)(Window.around(NOW))
    os.chown(settings.state_dir, 54_321, -1)
    os.chown(file.parent, 54_321, -1)
    assert FileLoader(settings)(Window.around(NOW)).specs


def test_the_files_in_force_take_new_amendments_and_no_other_edit(settings: Settings) -> None:
    loader = FileLoader(settings)
    before = loader(Window.around(NOW))
    (settings.config_dir / "tasks.yaml").write_text("tasks: {}\n")
    with AmendmentsLock(settings.state_dir) as lock:
        lock.keep(amendments_text({"NSE": {"2026-11-25": {"closed": True}}}), {"date": "2026-11-25"})
    after = loader.in_force(Window.around(NOW))
    assert after.specs == before.specs
    assert not row_of(after.tables["NSE"], "2026-11-25")["open"]
    assert [entry["date"] for entry in after.trail or ()] == ["2026-11-25"]
    assert loader(Window.around(NOW)).specs == ()


def test_what_is_amended_while_the_calendars_are_built_is_told_with_the_next_load(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it is in force."""
    build = Calendars.build

    def slowly(*arguments: Any) -> Built:
        built = build(*arguments)
        with AmendmentsLock(settings.state_dir) as lock:
            lock.keep(amendments_text({"NSE": {"2026-11-25": {"closed": True}}}), {"date": "2026-11-25"})
        return built

    monkeypatch.setattr(Calendars, "build", slowly)
    loader = FileLoader(settings)
    first = loader(Window.around(NOW))
    monkeypatch.undo()
    assert (row_of(first.tables["NSE"], "2026-11-25")["open"], first.trail) == (True, ())
    second = loader(Window.around(NOW))
    assert not row_of(second.tables["NSE"], "2026-11-25")["open"]
    assert [entry["date"] for entry in second.trail or ()] == ["2026-11-25"]


def test_check_diff_compares_with_the_amendments_that_the_daemon_took(settings: Settings) -> None:
    loader = FileLoader(settings)
    loader(Window.around(NOW))
    loader.keep_accepted()
    amend(settings, "NSE", "2026-11-25", closed=True)

    def difference() -> list[str]:
        found = offline.changes_since_accepted(settings, FileLoader(settings)(Window.around(NOW)), NOW)
        return [str(line) for line in found or ()]

    assert "2026-11-25 market-monitoring: -4500 open, +375 closed" in difference()
    (settings.config_dir / "tasks.yaml").write_text(TASKS.replace("1h", "2h"))  # saved, and held back
    loader.in_force(Window.around(NOW))
    loader.keep_accepted()
    assert not any("market-monitoring" in line for line in difference())
    assert any("derivatives" in line for line in difference()), "what is held back is not accepted yet"
    loader(Window.around(NOW))
    loader.keep_accepted()
    assert difference() == []


def test_the_trail_is_a_line_of_json_for_each_change(settings: Settings) -> None:
    amend(settings, "NSE", "2026-11-25", closed=True, name="दिवाली")
    [line] = amendments_file(settings.state_dir).with_suffix(".log").read_text("utf-8").splitlines()
    assert json.loads(line)["change"] == "closed, दिवाली"
    assert date.fromisoformat(json.loads(line)["date"]) == date(2026, 11, 25)
