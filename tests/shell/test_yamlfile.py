from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scheduler import yamlfile
from scheduler.errors import ConfigurationError, Mark, Problem
from scheduler.yamlfile import MapNode, parse, read, suggest

if TYPE_CHECKING:
    from pathlib import Path


NO_COLON = "a ':' is not allowed here; indent the line like its neighbours, or quote text with ': ' in it"
NO_BELL = "the character U+0007 is not allowed in YAML; write it as an escape in double quotes"


def complaints(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f.yaml")
    return str(caught.value)


@pytest.fixture(params=["c", "python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both parsers of PyYAML: where it was built without libyaml there is only the slow one."""
    if request.param == "python":
        monkeypatch.setattr(yamlfile, "_Loader", yaml.SafeLoader)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("16:00", "16:00"),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("'5'", "5"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("True", True),
        ("false", False),
        ("~", None),
        ("NULL", None),
        ("", None),
        ("''", ""),
        ("[a, 1, {b: no}]", ["a", 1, {"b": "no"}]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    plain = parse(f"key: {text}", "f.yaml").plain()["key"]
    assert (plain, type(plain)) == (value, type(value))


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(parse("key: .nan", "f.yaml").plain()["key"])


def test_keys_stay_the_text_that_was_written() -> None:
    text = "2027-01-26: a\n5: b\nno: c\n0x1F: d\n~: e\n"
    assert parse(text, "f.yaml").plain() == {"2027-01-26": "a", "5": "b", "no": "c", "0x1F": "d", "~": "e"}


def test_an_alias_repeats_its_anchor() -> None:
    text = "a: &x {b: [1]}\nc: *x\nd: &k word\n*k : 2\n"
    assert parse(text, "f.yaml").plain() == {"a": {"b": [1]}, "c": {"b": [1]}, "d": "word", "word": 2}


def test_every_node_knows_its_place() -> None:
    root = parse("a: 1\nlist:\n  - x\n  - deep: {k: v}\n", "f.yaml")
    assert root.at(()) == Mark("f.yaml", 1, 1)
    assert root.at(("list", 1, "deep", "k")) == Mark("f.yaml", 4, 15)
    assert root.at(("list", 1, "deep", "k"), key=True) == Mark("f.yaml", 4, 12)
    assert root.at(("list", 0)) == Mark("f.yaml", 3, 5)
    assert root.at(("list", 7, "deep")) == Mark("f.yaml", 3, 3)
    assert root.at(("a", "nothing", "here")) == Mark("f.yaml", 1, 4)
    assert root.at(("a", "nothing"), key=True) == Mark("f.yaml", 1, 1)


def test_columns_count_characters_not_bytes() -> None:
    assert complaints("é: ü\nä: *x\n") == "f.yaml:2:4: the alias *x has no anchor &x before it"


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: the file is empty; write a map of keys and values"),
        ("# only a comment\n", "1:1: the file is empty; write a map of keys and values"),
        ("---\n...\n", "1:1: the file is empty; write a map of keys and values"),
        ("- a\n", "1:1: the file must be a map (`key: value` lines)"),
        ("word\n", "1:1: the file must be a map (`key: value` lines)"),
        ("a: 1\nb: 2\na: 3\n", "3:1: the key 'a' is given twice; first at line 1, column 1"),
        ("a: {b: 1,\n  b: 2}\n", "2:3: the key 'b' is given twice; first at line 1, column 5"),
        ("a: 1\n'a': 2\n", "2:1: the key 'a' is given twice; first at line 1, column 1"),
        ("? [a]\n: 1\n", "1:3: a key must be a single word or text, not a list or a map"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document begins here; write one document per file"),
        ("a: !str 1\n", "1:4: tags such as '!str' are not allowed; to make text of a value, quote it"),
        ("a: !x!y 1\n", "1:4: tags (!name) are not allowed"),
        ("<<: {a: 1}\n", "1:1: merge keys (<<) are not part of YAML 1.2; repeat the keys"),
        ("a:\n\tb: 1\n", "2:1: a tab cannot indent; use spaces"),
        ("a: b: c\n", "1:5: " + NO_COLON),
        ("a: @daily\n", "1:4: text cannot begin with this character; put it into quotes"),
        ("a: 'x\nb: 1\n", "1:4: this quote is never closed"),
        ("a: [1\nb: 1\n", "2:2: a ',' or the closing ']' is missing"),
        ("a: {b: 1\nc: 2\n", "2:2: a ',' or the closing '}' is missing"),
        ("a: - b\n", "1:4: a list item ('- ...') must begin on a line of its own"),
        ("a: [1,,2]\n", "1:7: a value is expected here, or a bracket before it is not closed"),
        ("a: *x\n", "1:4: the alias *x has no anchor &x before it"),
        ("a: &x [*x]\n", "1:8: the alias *x stands inside of what it refers to"),
        ("a: \x07\n", "1:4: " + NO_BELL),
        ("a: " + "9" * 5000, "1:4: a number of 5000 characters is too long; quote it if it is text"),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_with_its_place_and_what_would_be_right(text: str, message: str) -> None:
    assert complaints(text) == f"f.yaml:{message}"


def test_who_can_go_on_gets_keys_given_twice_as_a_list_and_the_first_of_each() -> None:
    repeated: list[Problem] = []
    root = parse("a: 1\nb: {c: 2, c: 3}\na: {d: 4}\n", "f.yaml", repeated)
    assert root.plain() == {"a": 1, "b": {"c": 2}}
    assert [str(problem) for problem in repeated] == [
        "f.yaml:2:11: the key 'c' is given twice; first at line 2, column 5",
        "f.yaml:3:1: the key 'a' is given twice; first at line 1, column 1",
    ]


@pytest.mark.parametrize("text", ["a: 1\na: !x 2\n", "a: 1\na: [\n", "a: 1\na: 2\n<<: {}\n"])
def test_keys_given_twice_are_told_with_what_makes_a_file_unreadable(text: str) -> None:
    repeated: list[Problem] = []
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f.yaml", repeated)
    assert repeated == []
    assert len(caught.value.problems) == 2


def test_a_tag_that_would_run_code_in_other_loaders_is_refused() -> None:
    assert "are not allowed" in complaints("a: !!python/object/apply:os.system [id]\n")


def test_all_mistakes_that_leave_the_file_readable_are_reported_at_once() -> None:
    assert complaints("b: !x 1\na: 1\na: 2\n<<: {}\n").count("\n") == 2


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(opening: str) -> None:
    assert "nested more than 50 deep" in complaints(opening * 100_000)


def test_fifty_levels_are_allowed() -> None:
    assert parse("a: " + "[" * 49 + "]" * 49, "f.yaml").plain()
    assert "nested" in complaints("a: " + "[" * 50 + "]" * 50)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "more than 100000 values" in complaints("\n".join(lines))


def test_aliases_cannot_nest_deeper_than_the_text_may() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)]
    assert "nested more than 50 deep" in complaints("\n".join(lines))


def test_a_flat_file_with_too_many_values_is_refused() -> None:
    assert "more than 100000 values" in complaints("a: [" + "1," * 100_000 + "]")


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    return str(caught.value)


def test_a_file_is_read_and_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: [\n")
    monkeypatch.chdir(tmp_path)
    assert refusal(type(tmp_path)("a.yaml")).startswith("a.yaml:2:1: ")
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert isinstance(read(tmp_path / "a.yaml"), MapNode)


def test_ten_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(10_000_000)
    assert refusal(path) == f"{path}:1:1: the file is larger than 1 MiB; split it or check what it is"


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}:1:1: this is a directory; a YAML file is expected here"
    missing = tmp_path / "missing.yaml"
    assert refusal(missing) == f"{missing}:1:1: there is no such file"
    os.mkfifo(tmp_path / "pipe")
    assert "this is no regular file" in refusal(tmp_path / "pipe")
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "the file cannot be read: Too many levels of symbolic links" in refusal(loop)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # root may read everything, so for a moment we are somebody else
        os.seteuid(65_534)
    try:
        message = refusal(path)
    finally:
        os.seteuid(user)
    assert "the file cannot be read: Permission denied" in message


@pytest.mark.parametrize("content", [b"a: 1\nb: \xff\xfe\n", "a: 1\nb: é".encode("latin-1")])
def test_bytes_that_are_not_utf_8_are_refused_at_their_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert refusal(path) == f"{path}:2:4: the file is not UTF-8 text; save it as UTF-8"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\x7fELF\x02\x01\x00\x00")
    assert "U+007F is not allowed" in refusal(path)


def test_a_misspelt_word_gets_a_suggestion_and_a_strange_one_none() -> None:
    assert suggest("evrey", {"every", "at"}) == "; did you mean 'every'?"
    assert suggest("nes", {"NSE", "MCX"}) == "; did you mean 'NSE'?"
    assert suggest("zzz", {"every", "at"}) == ""
    assert suggest("x" * 1_000_000, {"every"}) == ""


_YAMLISH = st.text(alphabet="ab:-[]{},&*!|>'\"%@`#? \n\t1.~<é\x00", max_size=60)


@given(_YAMLISH)
def test_any_text_is_a_map_or_a_configuration_error_with_a_place(text: str) -> None:
    problems = None
    try:
        assert isinstance(parse(text, "f.yaml").plain(), dict)
    except ConfigurationError as error:
        problems = error.problems
    assert problems is None or (problems and all(problem.mark is not None for problem in problems))
