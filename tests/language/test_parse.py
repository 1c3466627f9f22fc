"""From bytes to definitions: values, places, bounds, and what no bytes can do."""

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.problem import Problem
from controller.source.diagnostic import CLIP
from controller.source.parse import LISTED, Diagnostic, ParsedFile, parse, read_data
from tests.language.codes import FILES, STEP, TIGHT, WORKFLOW
from tests.sources import ROOT

SEED = ROOT / "tests" / "seed" / "example-workflow.yaml"
SAMPLES = sorted((ROOT / "definitions").rglob("*.yaml"))
QUICK = 2.0
"""Seconds; far more than any file takes on a busy machine."""


def _parse(text: str | bytes, path: str = "w.yaml") -> ParsedFile:
    return parse(path, text.encode() if isinstance(text, str) else text)


def _data(text: str) -> object:
    data, problems = read_data("w.yaml", text.encode())
    assert problems == []
    return data


def _only(parsed: ParsedFile) -> Diagnostic:
    [problem] = parsed.problems
    return problem


def _quickly(content: bytes) -> ParsedFile:
    began = time.perf_counter()
    parsed = parse("w.yaml", content)
    assert time.perf_counter() - began < QUICK
    return parsed


def test_the_seed_workflow_loads_as_printed() -> None:
    """The example of the page that the language comes from has no problem."""
    parsed = _parse(SEED.read_bytes())
    assert parsed.problems == []
    [document] = parsed.documents
    assert document.definition is not None
    assert document.definition.name == "example-workflow"


@pytest.mark.parametrize("code", sorted(FILES))
def test_every_code_is_found_in_a_file(code: str) -> None:
    """For each code there is a file with it, and the problem has a place inside the file."""
    content = FILES[code]
    content = content.encode() if isinstance(content, str) else content
    parsed = parse("w.yaml", content, TIGHT)
    found = next(problem for problem in parsed.problems if problem.code == code)
    assert 1 <= found.line <= content.count(b"\n") + 1
    assert found.column >= 1
    severity = "warning" if code == "no-effect" else "error"
    assert found.severity == severity
    assert found.render().startswith(f"w.yaml:{found.line}:{found.column}: {severity}[{code}]: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("yes", "yes"), ("12:30", "12:30"), ("1-2-3", "1-2-3"),
        ("true", True), ("False", False), ("tRue", "tRue"), ("", None), ("~", None), ("null", None),
        ("12", 12), ("-7", -7), ("+7", 7), ("0o17", 15), ("0x1F", 31), ("017", 17), ("1_0", "1_0"),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-.5e1", -5.0), ("1.", 1.0),
        ("1.2.3", "1.2.3"), ("-", [None]), ("--", "--"), (".", "."), ("'12'", "12"),
        ('"true"', "true"), ('""', ""),
        ("!!str 12", "12"), ("!!str true", "true"), ("9223372036854775807", 2**63 - 1),
        ("|\n  a\n  b", "a\nb"), (">\n  a\n  b", "a b"), ("[1, a]", [1, "a"]),
        ("{a: }", {"a": None}),
        ("${a.b}", "${a.b}"), ("${a == 'x'}", "${a == 'x'}"),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Words of YAML 1.1 are text; numbers, booleans and null are those of the core schema."""
    below = text if text != "-" else "\n  -"
    data = _data(f"x: {below}")
    assert isinstance(data, dict)
    assert data["x"] == value
    assert type(data["x"]) is type(value)


@pytest.mark.parametrize(
    "text", [".nan", ".inf", "-.INF", "1e400", "9223372036854775808", "9" * 99]
)
def test_a_number_that_json_has_not_is_a_problem(text: str) -> None:
    """Infinite, not a number, or more than 64 bits: refused, never rounded."""
    data, [problem] = read_data("w.yaml", f"x: {text}".encode())
    assert data is None
    assert (problem.code, problem.line, problem.column) == ("bad-number", 1, 4)


def test_merge_keys_add_what_is_not_there() -> None:
    """`<<` takes one mapping or several; the nearer wins, and a quoted one is a name."""
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 0}\nd: {'<<': 5}\n"
    data = _data(text)
    assert isinstance(data, dict)
    assert data["c"] == {"x": 0, "y": 1, "z": 2}
    assert data["d"] == {"<<": 5}


def test_a_problem_in_what_was_merged_is_where_it_is_written() -> None:
    """The place of a merged value is that of the mapping it comes from."""
    text = (
        "name: w\nmetadata:\n  base: &base\n    timeout: soon\n"
        "steps:\n  - {<<: *base, id: a, type: action, action: log}\n"
    )
    problem = _only(_parse(text))
    assert (problem.code, problem.line, problem.column) == ("bad-value", 4, 14)


def test_a_file_holds_several_documents() -> None:
    """Empty ones are left out, and each has its own problems at its own lines."""
    text = f"---\n{WORKFLOW}---\n# nothing\n---\nname: v\nsteps: []\n---\n{WORKFLOW}...\n"
    parsed = _parse(text)
    assert [each.definition is not None for each in parsed.documents] == [True, False, True]
    assert [(each.code, each.line) for each in parsed.problems] == [("bad-value", 8)]
    assert parsed.documents[1].problems == parsed.problems


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "\ufeff", "---\n---\n"])
def test_a_file_without_definitions_is_no_problem(text: str) -> None:
    """Nothing in, nothing out."""
    assert _parse(text) == ParsedFile("w.yaml", [], [])


def test_a_flaw_of_the_yaml_does_not_hide_the_rest() -> None:
    """A key that is there twice, a wrong tag and an unknown field are told together, in order."""
    text = "name: w\nname: v\ndescription: !x y\nsteps: []\nfoo: 1\n"
    assert [(each.code, each.line, each.column) for each in _parse(text).problems] == [
        ("duplicate-key", 2, 1),
        ("unknown-tag", 3, 14),
        ("bad-value", 4, 8),
        ("unknown-field", 5, 1),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("name: w\nsteps:\n  - id: a\n    with: {data: ${x}}\n", 4, 19),
        ("name: w\ndescription: ${a ? b : c}\n", 2, 22),
        ("name: w\ndescription: ${a}\n  more: x\n", 2, 14),
    ],
)
def test_an_expression_that_yaml_cannot_read_says_quote_it(
    text: str, line: int, column: int
) -> None:
    """The most common syntax error of this language is told by its cure."""
    problem = _only(_parse(text))
    assert (problem.code, problem.line, problem.column) == ("yaml-syntax", line, column)
    assert problem.hint is not None
    assert problem.hint.startswith('quote it: "${…}"')


def test_tabs_are_named() -> None:
    """Indentation by tabs has its own hint."""
    assert _only(_parse("name: w\nsteps:\n\t- id: a\n")).hint is not None


def test_json_comes_through_the_same_door() -> None:
    """A `.json` file has definitions and places like any other, tabs and escaped pairs included."""
    workflow = {"name": "w", "description": "\U0001f600 \\ud83d", "steps": [{"id": "a"}]}
    text = json.dumps(workflow, indent="\t")
    problem = _only(_parse(text, "w.json"))
    assert (problem.code, problem.line, problem.column) == ("missing-field", 5, 3)
    assert _parse(text, "w.json").documents[0].data == workflow


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=15,
)


@given(_JSON, st.sampled_from([None, 0, 2, "\t"]))
def test_json_is_read_as_json_reads_it(data: object, indent: str | int | None) -> None:
    """Every JSON text gives the data that a JSON reader would give, however it is laid out."""
    found, problems = read_data("w.json", json.dumps(data, indent=indent).encode())
    assert problems == []
    assert found == data


@given(_JSON)
def test_every_value_has_its_place(data: object) -> None:
    """A problem anywhere in a document points at the first character of what it is about."""
    text = json.dumps({"name": data}, indent=1)
    lines = text.splitlines()
    [document] = _parse(text, "w.json").documents
    front: list[tuple[tuple[str | int, ...], object]] = [(("name",), data)]
    while front:
        path, value = front.pop()
        found = document.locate(Problem("x", "y", path))
        rest = lines[found.line - 1][found.column - 1 :]
        if isinstance(value, dict):
            assert rest.startswith("{")
            front.extend(((*path, key), each) for key, each in value.items())
        elif isinstance(value, list):
            assert rest.startswith("[")
            front.extend(((*path, index), each) for index, each in enumerate(value))
        else:
            assert rest.rstrip(",") == json.dumps(value)


def test_a_place_inside_a_text_counts_from_its_beginning() -> None:
    """A problem inside an expression points into the text, in blocks and quotes as well."""
    text = "name: w\ndescription: 'abc'\nversion: |\n  one\n  two\nsteps: []\n"
    locate = _parse(text).documents[0].locate
    quoted = locate(Problem("x", "y", ("description",), offset=2))
    block = locate(Problem("x", "y", ("version",), offset=5))
    assert (quoted.line, quoted.column) == (2, 17)
    assert (block.line, block.column) == (5, 4)


@pytest.mark.parametrize(
    ("content", "code", "line", "column"),
    [
        (b"name: a\nb: \xff", "not-utf-8", 2, 4),
        (b"\xef\xbb\xbfname: a\nb: \xff", "not-utf-8", 2, 4),
        (WORKFLOW.encode("utf-16"), "not-utf-8", 1, 1),
        (b"name: a\0", "control-character", 1, 8),
        (b"name: a\n\x1b[31m", "control-character", 2, 1),
        (b'name: "a\\0b"\nsteps: [{id: a, type: action, action: log}]', "control-character", 1, 7),
        (b'metadata: {"a\\0": 1}\nname: w\n' + STEP.encode(), "bad-key", 1, 12),
    ],
)
def test_what_is_no_text_is_told_with_its_place(
    content: bytes, code: str, line: int, column: int
) -> None:
    """Other encodings, NUL and control characters: the exact position, nothing else."""
    problem = _only(_parse(content))
    assert (problem.code, problem.line, problem.column) == (code, line, column)


def test_windows_files_are_fine() -> None:
    """A byte order mark and CRLF change nothing, not even a column."""
    content = ("\ufeff" + WORKFLOW + "foo: 1\n").replace("\n", "\r\n").encode()
    problem = _only(_parse(content))
    assert (problem.code, problem.line, problem.column) == ("unknown-field", 3, 1)
    assert problem.excerpt == "foo: 1"


def test_an_alias_bomb_is_answered_at_once() -> None:
    """Nine levels of nine aliases would be a thousand million values: counted, not made."""
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
    )
    assert [each.code for each in _quickly(bomb.encode()).problems] == ["too-many-values"]
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n"
        for level in range(1, 10)
    )
    assert [each.code for each in _quickly(merges.encode()).problems] == ["too-many-values"]


@pytest.mark.parametrize(
    "text", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n", "&a [*a]\n"]
)
def test_an_anchor_inside_itself_is_refused(text: str) -> None:
    """No value can hold itself."""
    assert [each.code for each in _quickly(text.encode()).problems] == ["recursive-alias"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 300 + "]" * 300,
        '{"a":' * 100_000,
        "- " * 100_000,
        "? " * 50_000,
        "".join(f"{' ' * level}a:\n" for level in range(1_000)),
    ],
    ids=["lists", "closed", "mappings", "items", "names", "indented"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    """However it is written, depth is a problem at a place, and no danger to the process."""
    assert [each.code for each in _quickly(text.encode()).problems] == ["too-deep"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a: b\n" * 10_000_000, "file-too-large"),
        (b"- 1\n" * 200_000, "too-many-values"),
        (b"[" + b"[]," * 200_000 + b"]", "too-many-values"),
        (b"a: " + b"x" * 500_000, "text-too-long"),
        (b"a: " + b"1" * 500_000, "text-too-long"),
    ],
    ids=["50 MB", "items", "brackets", "text", "digits"],
)
def test_bounds_are_answered_at_once(content: bytes, code: str) -> None:
    """Over a bound there is one problem that names it, quickly."""
    assert [each.code for each in _quickly(content).problems] == [code]


def test_a_file_with_countless_problems_lists_some() -> None:
    """The list ends with how many more there are; status and database stay small."""
    text = WORKFLOW + "".join(f"x{number}: 1\n" for number in range(1_000))
    problems = _quickly(text.encode()).problems
    assert len(problems) == LISTED + 1
    assert problems[-1].message == "800 more problems are not listed"


def test_a_diagnostic_shows_the_line_with_a_caret() -> None:
    """Place, code and message, the source line, a caret below the very character, the hint."""
    text = "name: w\nsteps:\n  - id: a\n    type: action\n    action: log\n    depend_on: []\n"
    assert _only(_parse(text)).render().splitlines() == [
        "w.yaml:6:5: error[unknown-field]: item 1 of `steps` has no field `depend_on`",
        "    6 |     depend_on: []",
        "      |     ^",
        "      hint: did you mean `depends_on`?",
    ]


def test_a_diagnostic_holds_nothing_that_a_terminal_obeys() -> None:
    """Whoever opens a pull request writes no escape sequence to whoever looks at it."""
    shown = _only(
        _parse('name: w\nsteps: [{id: a, type: action, action: log, "x\\e[2J": 1}]')
    ).render()
    assert "has no field `x [2J`" in shown


def test_long_lines_are_clipped_around_the_caret() -> None:
    """A line as long as the file is neither shown nor kept; the caret still stands right."""
    text = f'{{"a": "{"x" * 5_000}", "foo": 1, "b": "{"y" * 5_000}"}}'
    found = next(each for each in _parse(text).problems if "`foo`" in each.message)
    assert len(found.excerpt) == CLIP
    assert found.excerpt[found.caret :].startswith('"foo"')
    assert found.as_json()["excerpt"] == found.excerpt
    [_, _, caret, *_] = found.render().splitlines()
    assert caret.index("^") == len("    1 | ") + found.caret


def test_a_diagnostic_survives_json() -> None:
    """What status and API hold is enough to make the diagnostic again."""
    found = _only(_parse("name: w\nsteps: []\n"))
    assert Diagnostic(**json.loads(json.dumps(found.as_json()))) == found


def _is_sound(content: bytes, parsed: ParsedFile) -> None:
    """Every document is accepted or has a problem; every problem has a line of the file."""
    lines = content.decode("utf-8", "replace").splitlines()
    for problem in parsed.problems:
        assert 1 <= problem.line <= len(lines) + 1
        assert problem.column >= 1
        assert problem.message
    for document in parsed.documents:
        errors = [each for each in document.problems if each.severity == "error"]
        assert (document.definition is None) == bool(errors)


@given(st.binary(max_size=300))
def test_no_bytes_raise(content: bytes) -> None:
    """Whatever a file holds, there are documents or problems."""
    _is_sound(content, _quickly(content))


@given(st.text("abn:-?&*!|>'\"%@`{}[],#$~<.0 \t\n\r", max_size=60))
def test_no_yaml_raises(text: str) -> None:
    """Nor do texts made of what YAML reads as its own."""
    _is_sound(text.encode(), _quickly(text.encode()))


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file as a slip of the hand, a merge or a broken disk leaves it."""
    lines = content.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    spot = chance.randrange(len(content))
    match chance.randrange(7):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, chance.choice(lines))
        case 2:
            lines[at] = b"  " + lines[at]
        case 3:
            lines[at] = lines[at].replace(b": ", b":", 1)
        case 4:
            return content[:spot]
        case 5:
            return content[:spot] + bytes([chance.randrange(256)]) + content[spot + 1 :]
        case _:
            cut = content[spot : spot + chance.randrange(1, 12)]
            return content[:spot] + cut * chance.randrange(2, 5) + content[spot:]
    return b"".join(lines)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_no_mutation_of_a_sample_raises(path: Path) -> None:
    """Five hundred slips and breakages, over the samples: a document or a problem, always."""
    chance = random.Random(path.name)
    for _ in range(-(-500 // len(SAMPLES))):
        content = path.read_bytes()
        for _ in range(chance.randrange(1, 4)):
            content = mutated(content, chance) or b"\n"
        _is_sound(content, _quickly(content))


@pytest.mark.parametrize("written", ["1.10", "1.0", "2", "0x10", "1e3"])
def test_a_version_is_what_is_written(written: str) -> None:
    """Without quotes it is a number to YAML, of which 1.10 would be 1.1."""
    [document] = parse("w.yaml", f"name: w\nversion: {written}\nsteps: []\n".encode()).documents
    assert document.data["version"] == written
    merged = f"<<: {{version: {written}}}\nname: w\nsteps: []\n"
    [document] = parse("w.yaml", merged.encode()).documents
    assert document.data["version"] == written
