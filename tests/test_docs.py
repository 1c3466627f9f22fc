"""Documents that cannot lie: the map, links, examples, and every name they give are checked."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import controller
from tests import reference
from tests.sources import ROOT, name, python, text, tracked

README = ROOT / "README.md"


def _documents() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def _needs(module: str) -> None:
    """Skip, loudly, while a part of the program that a document speaks of is not there."""
    if find_spec(module) is None:
        pytest.skip(f"{module} does not exist: WHAT THE DOCUMENTS SAY ABOUT IT IS NOT CHECKED")


def test_the_map_is_true() -> None:
    """The package's docstring names each of its modules and folders, and nothing else, once."""
    package = ROOT / "controller"
    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in package.glob("*.py")} - {"__init__.py"}
    said = re.findall(r"(?m)^    (\w+(?:\.py|/))  ", controller.__doc__ or "")
    assert sorted(said) == sorted(there)


def _slug(heading: str) -> str:
    """The anchor that Markdown viewers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _anchors(path: Path) -> set[str]:
    return {_slug(heading) for heading in re.findall(r"(?m)^#+ (.+)$", text(path))}


def test_links_lead_somewhere() -> None:
    """Every relative link in a document names a file of the project, and a heading in it."""
    broken = []
    for path in _documents():
        prose = re.sub(r"```.*?```", "", text(path), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            found = target.exists() and (not anchor or anchor in _anchors(target))
            if not found:
                broken.append(f"{name(path)}: {link}")
    assert not broken, "\n".join(broken)


def _fences(path: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text(path))


@pytest.mark.parametrize("path", [README, *(ROOT / "docs").glob("*.md")], ids=name)
def test_examples_are_valid_definitions(path: Path) -> None:
    """Every YAML block is a definition the parser accepts, or a settings file that says so."""
    _needs("controller.source.parse")
    parse = importlib.import_module("controller.source.parse").parse
    for number, block in enumerate(_fences(path, "yaml"), 1):
        if block.startswith("# windlass.yaml"):
            continue
        parsed = parse(f"{path.name}#{number}.yaml", block.encode())
        assert [problem.render() for problem in parsed.problems] == []
        assert parsed.documents


@pytest.mark.parametrize("section", reference.SECTIONS)
def test_the_reference_is_what_the_code_says(section: str) -> None:
    """Each table of the reference is what `python -m tests.reference` would write."""
    _needs({"settings": "controller.settings"}.get(section, "controller.app"))
    page, write = reference.SECTIONS[section]
    assert reference.between(text(page), section) == f"{write()}\n", "python -m tests.reference"


def test_variables_in_documents_are_settings() -> None:
    """Each `WINDLASS_…` a document or a deployment file names is a setting."""
    _needs("controller.settings")
    fields = importlib.import_module("controller.settings").Settings.model_fields
    there = {f"WINDLASS_{field.upper()}" for field in fields}
    # what scripts are given is not set by anybody
    there |= set(re.findall(r"\bWINDLASS_[A-Z]+", text(ROOT / "controller/execute/scripts.py")))
    said = {
        (name(path), variable)
        for path in (*_documents(), *(ROOT / "deploy").iterdir())
        for variable in re.findall(r"\bWINDLASS_[A-Z_]*[A-Z]\b", text(path))
    }
    assert {pair for pair in said if pair[1] not in there} == set()


def test_the_readme_lists_every_command_and_no_other() -> None:
    """The README's table names the commands that there are."""
    _needs("controller.app")
    listed = reference.between(text(README), "commands") or ""
    pattern = r"(?m)^\| `(windlass [\w: -]+)`"
    assert set(re.findall(pattern, listed)) == set(re.findall(pattern, reference.commands()))


def test_every_code_is_documented() -> None:
    """Each code a problem is made with in the code stands in docs/diagnostics.md, once, in full."""
    made: set[str] = set()
    makers = r"(?:Problem|Refusal|report|_refuse|Flaw|of_file|_flaw|_at)"
    call = makers + r'\(\s*(?:[\w.]+,\s*)*"([a-z]+(?:-[a-z0-9]+)+|cycle)"'
    for path in (*python("controller/core"), *python("controller/source")):
        made |= set(re.findall(call, text(path)))
    made |= set(re.findall(r'"code": "([a-z-]+)"', text(ROOT / "controller/reconcile/apply.py")))
    rows = re.findall(r"(?m)^\| `([a-z0-9-]+)` \|(.*)$", text(ROOT / "docs/diagnostics.md"))
    said = [code for code, _ in rows]
    assert made - set(said) == set()
    assert sorted(said) == sorted(set(said))
    assert [code for code, rest in rows if re.fullmatch(r".+\|.+\|", rest) is None] == []


def test_metrics_in_documents_exist() -> None:
    """Each metric a document names is one that the code makes."""
    _needs("controller.app")
    made = {
        hit for path in python("controller") for hit in re.findall(r"\bwindlass_\w+", text(path))
    }
    said = {
        (name(path), re.sub(r"_(?:bucket|sum|count|total)$", "", metric))
        for path in _documents()
        for metric in re.findall(r"\bwindlass_[a-z_]+", text(path))
    }
    stems = {re.sub(r"_total$", "", metric) for metric in made}
    assert {pair for pair in said if pair[1] not in stems} == set()


def test_paths_in_documents_are_routes() -> None:
    """Each path of the HTTP interface that a document names is one the code serves."""
    _needs("controller.app")
    served = "".join(text(path) for path in python("controller/web"))
    said = {
        (name(path), route)
        for path in _documents()
        for route in re.findall(
            r"`(?:(?:GET|POST|PUT|DELETE) )?(/(?:api|metrics|healthz|readyz)[^`?]*)`", text(path)
        )
    }
    assert {pair for pair in said if f'"{pair[1]}"' not in served} == set()
