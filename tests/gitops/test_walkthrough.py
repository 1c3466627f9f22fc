"""docs/gitops.md, executed as it is written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.daemon import environment, free_port
from tests.sources import ROOT, text

PAGE = ROOT / "docs" / "gitops.md"
BLOCK = re.compile(r"(?ms)^```(sh|text)\n(.*?)^```$")
NEEDED = ("git", "curl", "openssl", "ssh-keygen", "bash")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}"
)


def _script(port: int) -> tuple[str, list[str]]:
    """The page's commands as one script, and what each block of them is said to print."""
    lines = ["set -eu", "set -o pipefail"]
    expected: list[str] = []
    for language, block in BLOCK.findall(text(PAGE)):
        if language == "sh":
            expected.append("")
            lines += [f"echo '=== {len(expected)}'", block.replace("8228", str(port))]
        else:
            expected[-1] = block
    return "\n".join(lines), expected


@pytest.mark.timeout(600)
def test_the_walk_through_is_as_written(tmp_path: Path) -> None:
    """Each command succeeds, and prints the lines that stand below it, in their order."""
    port = free_port()
    script, expected = _script(port)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "windlass"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m controller "$@"\n')
    program.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    given = environment() | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "WINDLASS_HTTP_ADDRESS": f"127.0.0.1:{port}",
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "TZ": "UTC",
    }
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=place,
            env=given,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(150)
        finally:
            _end(process)
        said.seek(0)
        blocks = said.read().split("=== ")[1:]
    log = (place / "controller.log").read_text()[-2000:] if status else ""
    assert status == 0, f"{''.join(blocks)[-3000:]}\n{log}"
    for number, (wanted, block) in enumerate(zip(expected, blocks, strict=True), 1):
        rest = block
        for line in wanted.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split("…"))
            found = re.search(pattern, rest)
            assert found, f"block {number} does not print {line!r}:\n{block}"
            rest = rest[found.end() :]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """What the script left running is of its own session."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
