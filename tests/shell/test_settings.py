from __future__ import annotations

import os
from pathlib import Path

import pytest

from scheduler.core.messages import HOUR, MINUTE
from scheduler.errors import ConfigurationError
from scheduler.settings import Address, load_settings, unknown_variables

_SYSTEMD = ("STATE", "RUNTIME", "CONFIGURATION", "CREDENTIALS")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in os.environ if name.startswith(("SCHEDULER_", "XDG_"))]
    for name in [*names, *(f"{kind}_DIRECTORY" for kind in _SYSTEMD)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/desk")


def refusal() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_a_plain_user_gets_directories_of_his_own() -> None:
    settings = load_settings()
    assert settings.config_dir == Path("/etc/scheduler")
    assert settings.state_dir == Path("/home/desk/.local/state/scheduler")
    assert settings.socket == Path("/home/desk/.local/state/scheduler/scheduler.sock")
    assert (settings.listen, settings.log_format, settings.log_level) == (None, "auto", "info")
    assert (settings.python_path, settings.config_group, settings.config_gids) == ((), None, frozenset())
    assert settings.credentials_dir is None
    assert (settings.token_file, settings.listen_write, settings.hosts) == (None, False, ())
    assert settings.long_running == HOUR


def test_the_desktop_directories_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/desk")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    settings = load_settings()
    assert settings.state_dir == Path("/var/desk/scheduler")
    assert settings.socket == Path("/run/user/1000/scheduler.sock")


def test_a_relative_desktop_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert load_settings().state_dir == Path("/home/desk/.local/state/scheduler")


def test_the_first_of_each_directory_that_systemd_gives_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in _SYSTEMD:
        monkeypatch.setenv(f"{kind}_DIRECTORY", f"/{kind.lower()}/scheduler:/other")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    settings = load_settings()
    assert settings.config_dir == Path("/configuration/scheduler")
    assert settings.state_dir == Path("/state/scheduler")
    assert settings.socket == Path("/runtime/scheduler/scheduler.sock")
    assert settings.credentials_dir == Path("/credentials/scheduler")


def test_our_own_variables_win_over_those_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in _SYSTEMD:
        monkeypatch.setenv(f"{kind}_DIRECTORY", f"/{kind.lower()}/scheduler")
    monkeypatch.setenv("SCHEDULER_CONFIG_DIR", "/a")
    monkeypatch.setenv("SCHEDULER_STATE_DIR", "/b")
    monkeypatch.setenv("SCHEDULER_SOCKET", "/c/sock")
    settings = load_settings()
    assert (settings.config_dir, settings.state_dir, settings.socket) == (
        Path("/a"),
        Path("/b"),
        Path("/c/sock"),
    )


def test_the_command_line_wins_and_its_path_stays_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_CONFIG_DIR", "/a")
    assert load_settings(Path("config")).config_dir == Path("config")


def test_a_chosen_state_directory_brings_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("SCHEDULER_STATE_DIR", "/srv/second")
    assert load_settings().socket == Path("/srv/second/scheduler.sock")


def test_a_relative_state_directory_does_not_move_with_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHEDULER_STATE_DIR", "state")
    assert load_settings().state_dir == tmp_path / "state"


def test_every_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "LISTEN": "[::1]:8080",
        "LOG_FORMAT": "JSON",
        "LOG_LEVEL": "debug",
        "PYTHON_PATH": "/opt/desk:/opt/lib:",
        "CONFIG_GROUP": "root",
        "LONG_RUNNING": "90m",
        "TOKEN_FILE": "/etc/token",
        "LISTEN_WRITE": "Yes",
        "HOSTS": "Scheduler.Desk.Example., desk1,",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SCHEDULER_{name}", value)
    settings = load_settings()
    assert settings.listen == Address("::1", 8080)
    assert (settings.log_format, settings.log_level) == ("json", "debug")
    assert settings.python_path == ("/opt/desk", "/opt/lib")
    assert settings.config_gids == {0}
    assert settings.long_running == 90 * MINUTE
    assert (settings.token_file, settings.listen_write) == (Path("/etc/token"), True)
    assert settings.hosts == ("scheduler.desk.example", "desk1")


def test_the_token_is_the_services_credential_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_settings().token_file is None
    (tmp_path / "api-token").touch()
    assert load_settings().token_file == tmp_path / "api-token"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN", "LOG_FORMAT", "STATE_DIR", "SOCKET"):
        monkeypatch.setenv(f"SCHEDULER_{name}", "")
    assert load_settings().state_dir == Path("/home/desk/.local/state/scheduler")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LISTEN", "8080", "'8080' is not an address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080"),
        (
            "LISTEN",
            ":8080",
            "':8080' is not an address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            "LISTEN",
            "a:65536",
            "'a:65536' is not an address; write HOST:PORT such as 127.0.0.1:8080 or [::1]:8080",
        ),
        ("LOG_FORMAT", "xml", "must be one of auto, console, json, journal, not 'xml'"),
        ("LOG_LEVEL", "all", "must be one of debug, info, warning, error, critical, not 'all'"),
        ("LONG_RUNNING", "3600", "'3600' is not a duration; write 5s, 1m30s, 2h or 1d"),
        ("LISTEN_WRITE", "perhaps", "must be true or false, not 'perhaps'"),
        ("HOSTS", "a b", "'a b' is not the name of a host; write names such as scheduler.desk.example"),
        ("CONFIG_GROUP", "no-such-group", "there is no group 'no-such-group'"),
        ("SOCKET", f"/{'s' * 107}", f"'/{'s' * 107}' is longer than 107 bytes; choose a shorter path"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"SCHEDULER_{name}", value)
    assert refusal() == f"SCHEDULER_{name}: {message}"


def test_a_misspelt_variable_is_refused_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_LOG_FROMAT", "json")
    monkeypatch.setenv("SCHEDULER_LOG_LEVEL", "loud")
    assert refusal().splitlines() == [
        "SCHEDULER_LOG_FROMAT: there is no such setting; did you mean SCHEDULER_LOG_FORMAT?",
        "SCHEDULER_LOG_LEVEL: must be one of debug, info, warning, error, critical, not 'loud'",
    ]


def test_what_a_program_is_told_does_not_break_a_command_that_it_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_tasks = (
        "TASK",
        "RUN_ID",
        "DUE",
        "PHASE",
        "SESSION",
        "ATTEMPT",
        "PRIORITY",
        "MARKET",
        "EVENT",
        "SUBJECT",
    )
    of_alerts = ("LEVEL", "SUMMARY", "AT", "HOST", "COUNT", "RECOVERED")
    for name in of_tasks + of_alerts:
        monkeypatch.setenv(f"SCHEDULER_{name}", "x")
    load_settings()
    assert unknown_variables() == []


def test_a_variable_of_somebody_else_is_worth_a_warning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDULER_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("SCHEDULER_PORT_8080_TCP", "tcp://10.0.0.1:8080")
    load_settings()
    assert unknown_variables() == ["SCHEDULER_PORT_8080_TCP", "SCHEDULER_SERVICE_HOST"]
