"""Taste, as tests: length, names, leftovers. Each exception is listed with its reason."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.sources import ROOT, module, name, python, text, tracked, tree

FUNCTION_LINES = 50
FILE_LINES = 400

LONG: dict[str, str] = {
    "controller/core/compile.py": "one pass over a definition: its checks share what they know",
    "controller/service.py": "the verbs of the seed, one class, a few lines each",
    "controller/store/migrations/versions/v0001_first_schema.py::_workflow_executions": (
        "the widest table: a line a column, and a revision is never edited"
    ),
}
"""`path` or `path::function` → why it may be longer. An entry nothing needs fails."""

BANNED = {"job", "task", "dag", "manager", "util", "utils", "helper", "helpers", "common"}
"""Words that say nothing, or say `execution` in another way."""

NAMED: dict[str, str] = {}
"""`path::name` → why a banned word is right there, such as a name that asyncio gives."""

POLLING = {
    "tests/eventually.py",
    "tests/bench/t8_start.py",
    "tests/bench/peers/dbos_program.py",
    "tests/bench/peers/prefect_program.py",
}
"""Where a test may wait on real time."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(path: Path) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield f"{name(path)}::{node.name}", node


def _lines(node: Function) -> int:
    """Lines from `def` to the end, the docstring left out: a contract may be as long as it is."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_functions_and_files_are_short() -> None:
    """A function has at most 50 lines, a file at most 400, unless listed with a reason."""
    long = {
        label: f"{_lines(node)} lines"
        for path in python("controller")
        for label, node in _functions(path)
        if _lines(node) > FUNCTION_LINES
    }
    for path in python("controller"):
        if (lines := len(text(path).splitlines())) > FILE_LINES:
            long[name(path)] = f"{lines} lines"
    unlisted = [f"{label}: {size}" for label, size in long.items() if label not in LONG]
    assert not unlisted, "\n".join(unlisted)
    assert not LONG.keys() - long.keys(), "listed, but short enough: take them off"


def _words(identifier: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)}


def test_names_say_what_a_thing_is() -> None:
    """No class, function or module is a manager, a helper, or another word for an execution."""
    bad = {
        f"{name(path)}::{node.name}"
        for path in python("controller")
        for node in ast.walk(tree(path))
        if isinstance(node, Function | ast.ClassDef) and _words(node.name) & BANNED
    }
    bad |= {name(path) for path in python("controller") if _words(path.stem) & BANNED}
    assert not bad - NAMED.keys(), "\n".join(sorted(bad - NAMED.keys()))
    assert not NAMED.keys() - bad, "listed, but not there: take them off"


def test_documents_call_an_execution_an_execution() -> None:
    """Prose has one noun for it; code in back quotes may quote others."""
    bad = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text(path), flags=re.DOTALL)
        bad += [
            f"{name(path)}: {word}"
            for word in re.findall(r"\b(?:job|task|dag)s?\b", prose, re.IGNORECASE)
        ]
    assert not bad, "\n".join(bad)


FOREIGN = {
    "a path of one machine": r"(?<![\w.~$}])/(?:home|root|work|Users)/[\w.]",
    "a package registry": r"\b(?:pypi|pythonhosted|npmjs|ghcr|docker|quay)\.(?:org|com|io)\b",
    "a package index": r"--(?:extra-)?index-url|--find-links",
}


def test_nothing_points_at_one_machine_or_registry() -> None:
    """No committed text names a developer's folder, a registry's host or an index."""
    bad = []
    for path in tracked():
        if path == Path(__file__):
            continue
        try:
            content = text(path)
        except UnicodeDecodeError:
            continue
        bad += [
            f"{name(path)}: {what}: {hit[0]}"
            for what, pattern in FOREIGN.items()
            for hit in re.finditer(pattern, content)
        ]
    assert not bad, "\n".join(bad)


def _mentions(path: Path) -> Iterator[str]:
    """Dotted names a file imports, or names in text as loaders and entry points do."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^(controller(?:\.\w+)+)(?::\w+)?$", node.value)


def test_every_module_is_used() -> None:
    """Each module of the package is imported by another one, or is where a program starts."""
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    tables = [project.get("scripts", {}), *project.get("entry-points", {}).values()]
    used = {target.split(":")[0] for table in tables for target in table.values()}
    for path in python("controller"):
        used |= set(_mentions(path)) - {module(path)}
    # alembic finds its environment and its revisions by their place, `loading` the actions by name
    package = ROOT / "controller"
    placed = {package / "store" / "migrations", package / "execute" / "actions"}
    dead = [
        name(path)
        for path in python("controller")
        if path.stem not in {"__init__", "python_runner"}
        and placed.isdisjoint(path.parents)
        and module(path) not in used
    ]
    assert not dead, "\n".join(dead)


SILENCED = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|ruff:\s*ignore|pragma)(?P<rest>[^#]*)(?P<why>#.*)?"
)


def test_a_silenced_rule_says_why() -> None:
    """`# noqa: rule  # why`: whoever turns a rule off in place gives the reason beside it."""
    bad = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in (*python("controller"), *python("tests"))
        if path != Path(__file__)
        for number, line in enumerate(text(path).splitlines(), 1)
        if (hit := SILENCED.search(line)) and not hit["why"]
    ]
    assert not bad, "\n".join(bad)


def test_every_test_is_a_claim() -> None:
    """Every test function has a docstring that says what it claims."""
    bad = [
        label
        for path in python("tests")
        for label, node in _functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert not bad, "\n".join(bad)


def _is_sleep(node: ast.AST) -> bool:
    """A call of `time.sleep` or `asyncio.sleep`; `sleep(0)` only gives way, and is none."""
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "anyio.sleep"}
        and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    )


def test_no_test_sleeps() -> None:
    """Tests wait for what they want to see, or advance a clock; only the polling module sleeps."""
    bad = [
        f"{name(path)}:{getattr(node, 'lineno', 0)}"
        for path in python("tests")
        if name(path) not in POLLING
        for node in ast.walk(tree(path))
        if _is_sleep(node)
    ]
    assert not bad, "\n".join(bad)
