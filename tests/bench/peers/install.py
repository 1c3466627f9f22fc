"""Peers from their registries, by hash, each in a place of its own, installed once."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.peers.process import Failed
from tests.sources import ROOT

REQUIREMENTS = ROOT / "requirements" / "peers"


def python(name: str, cache: Path) -> Path:
    """The interpreter of a virtual environment with what `NAME.lock` lists."""
    place, lock = cache / name, REQUIREMENTS / f"{name}.lock"

    def install() -> None:
        _run([sys.executable, "-m", "venv", str(place)])
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq"]
        _run([*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)])

    _once(place, lock, install)
    return place / "bin" / "python"


def npm(name: str, cache: Path) -> Path:
    """The folder of the programs that `NAME/package-lock.json` lists; no script of theirs runs."""
    place, wanted = cache / name, REQUIREMENTS / name

    def install() -> None:
        place.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(wanted / file, place)
        _run(["npm", "ci", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"])

    _once(place, wanted / "package-lock.json", install)
    return place / "node_modules" / ".bin"


def version(name: str) -> str:
    """The version of a peer that is pinned."""
    package = REQUIREMENTS / name / "package.json"
    if package.exists():
        [found] = json.loads(package.read_text())["dependencies"].values()
        return str(found)
    text = (REQUIREMENTS / f"{name}.in").read_text()
    return text.partition(f"{name}==")[2].split()[0]


def _once(place: Path, wanted: Path, install: Callable[[], None]) -> None:
    """`place` keeps a copy of what it was installed from, written last."""
    stamp = place / "installed-from"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return
    shutil.rmtree(place, ignore_errors=True)
    print(f"Installing {place.name} into {place}, once.", file=sys.stderr)
    install()
    shutil.copy(wanted, stamp)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} took longer than ten minutes") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-500:]}")
