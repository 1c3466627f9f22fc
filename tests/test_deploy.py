"""What is under deploy/ fits the program: checked as far as it can be without the engines."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from controller.cli.commands import main
from controller.settings import Settings
from tests.sources import ROOT, python, text

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "windlass.service"
BACKUP = DEPLOY / "windlass-backup.service"
TIMER = DEPLOY / "windlass-backup.timer"

Instructions = list[tuple[str, str]]


def _unit(path: Path = UNIT) -> dict[str, str]:
    """Keys of the unit, last one wins; no key of ours has an empty value that matters."""
    lines = [line for line in text(path).splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def _seconds(value: str) -> int:
    return int(value.removesuffix("s"))


def _stages() -> list[Instructions]:
    """The Dockerfile's stages, each a list of (instruction, rest)."""
    lines = [line for line in text(DEPLOY / "Dockerfile").splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Instructions] = []
    for line in filter(None, joined.splitlines()):
        word, rest = line.split(None, 1)
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def _analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not on this machine: THE UNIT IS NOT VERIFIED")
    return found


@pytest.mark.parametrize("unit", [UNIT, BACKUP, TIMER], ids=lambda path: path.name)
def test_systemd_accepts_the_unit(tmp_path: Path, unit: Path) -> None:
    """`systemd-analyze verify` finds no fault; the program's own path is not there yet."""
    for each in (UNIT, BACKUP, TIMER):
        content = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text(each))
        (tmp_path / each.name).write_text(content)
    command = [_analyze(), "verify", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("unit", "most"), [(UNIT, 4.0), (BACKUP, 1.5)], ids=["run", "backup"])
def test_systemd_finds_little_exposed(unit: Path, most: float) -> None:
    """`systemd-analyze security` rates what is left open: 10 is everything."""
    command = [_analyze(), "security", "--offline=true", f"--threshold={most * 10:.0f}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_lets_the_sandbox_work() -> None:
    """Nothing in the unit takes away what bubblewrap needs: namespaces, mounts, a fresh /proc."""
    unit = _unit()
    covered = {"ProtectHostname", "ProtectKernelTunables", "ProtectKernelLogs", "ProcSubset"}
    openat2 = {"RestrictSUIDSGID", "DynamicUser"}  # the latter implies the former
    assert ({"RestrictNamespaces"} | covered | openat2) & unit.keys() == set()
    assert "@mount" in unit["SystemCallFilter"]
    assert "AF_NETLINK" in unit["RestrictAddressFamilies"]
    # the one system call of bubblewrap that the filter refuses is behind this option
    assert not any('"--hostname"' in text(path) for path in python("controller"))


def test_the_unit_keeps_to_what_the_program_does() -> None:
    """A unit of type notify with a watchdog needs a program that says READY and WATCHDOG."""
    unit = _unit()
    assert unit["Type"] == "notify"
    assert _seconds(unit["WatchdogSec"]) >= 30
    said = "".join(text(path) for path in python("controller"))
    for word in ("NOTIFY_SOCKET", "READY=1", "STOPPING=1", "WATCHDOG=1"):
        assert word in said


def test_the_unit_waits_for_the_first_look() -> None:
    """However long a migration or a first clone takes: `notify` is ready only after that."""
    assert _unit()["TimeoutStartSec"] == "infinity"


def test_the_backup_runs_where_the_controller_does() -> None:
    """The copy is made as the same user, of the same state, by a command that is understood."""
    unit, made = _unit(), _unit(BACKUP)
    places = ("StateDirectory", "ConfigurationDirectory", "WorkingDirectory", "EnvironmentFile")
    for key in ("User", *places):
        assert made[key] == unit[key]
    program, command, *flags = made["ExecStart"].split()
    assert program == unit["ExecStart"].split()[0]
    found = main.get_command(click.Context(main), command)
    assert found is not None
    found.make_context(command, flags)


def test_commands_find_what_the_controller_finds() -> None:
    """What is run beside it needs none of its flags: settings are where both stand."""
    final = dict(_stages()[-1])
    assert (final["WORKDIR"], final["CMD"]) == ("/", '["run"]')
    assert _unit()["ExecStart"].split()[1:] == ["run"]
    assert _unit()["WorkingDirectory"] == "%E/" + _unit()["ConfigurationDirectory"]
    assert "WINDLASS_" not in _unit()["Environment"]


def test_the_unit_waits_longer_than_the_grace() -> None:
    """The service manager kills later than the controller itself gives up on running steps."""
    knobs = Settings.model_fields
    graces = [knob.default for name, knob in knobs.items() if name.endswith("_grace")]
    assert len(graces) >= 2
    unit = _unit()
    assert unit["KillMode"] == "mixed"
    assert _seconds(unit["TimeoutStopSec"]) * 1000 > sum(graces)


def test_the_image_is_built_from_files_that_exist_and_are_sent() -> None:
    """Each file copied into the image is in the project and not ignored."""
    ignore = text(DEPLOY / "Dockerfile.dockerignore").splitlines()
    sent = {line[1:] for line in ignore if line.startswith("!")}
    for stage in _stages():
        for word, rest in stage:
            if word != "COPY" or "--from" in rest:
                continue
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in sent


def test_the_image_has_a_python_that_the_project_takes() -> None:
    """All stages share one Debian Python, at least the oldest the project supports."""
    bases = {stage[0][1].split()[0] for stage in _stages()}
    assert len(bases) == 1
    found = re.fullmatch(r"python:3\.(\d+)-slim-bookworm", bases.pop())
    assert found is not None
    wanted = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["requires-python"]
    assert int(found[1]) >= int(wanted.removeprefix(">=3."))


def test_the_image_installs_only_what_is_locked() -> None:
    """Every pip install is by hash from the lock file, or the project itself without its needs."""
    runs = [rest for stage in _stages() for word, rest in stage if word == "RUN"]
    installs = [part for run in runs for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 2
    for install in installs:
        words = set(shlex.split(install))
        assert {"--require-hashes", "--only-binary"} <= words or "--no-deps" in words


def test_the_image_runs_as_nobody_special_with_what_steps_need() -> None:
    """The final stage has bubblewrap and Git, another user than root, a volume, a health check."""
    final = dict(_stages()[-1])
    packages = next(rest for word, rest in _stages()[-1] if word == "RUN")
    assert {"bubblewrap", "git"} <= set(packages.split())
    assert final["USER"] == "windlass"
    assert final["STOPSIGNAL"] == "SIGTERM"
    assert f"--mode 0700 --owner windlass --group windlass {final['VOLUME']}" in packages
    assert f"WINDLASS_STATE_DIR={final['VOLUME']}" in final["ENV"].split()
    assert f"WINDLASS_HTTP_ADDRESS=0.0.0.0:{final['EXPOSE']}" in final["ENV"].split()
    assert f"127.0.0.1:{final['EXPOSE']}/healthz" in final["HEALTHCHECK"]


def test_prometheus_finds_the_default_address() -> None:
    """The scrape file names the address and the path where metrics are by default."""
    (scrape,) = yaml.safe_load(text(DEPLOY / "prometheus.yml"))["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": ["127.0.0.1:8228"]}]
    assert scrape["metrics_path"] == "/metrics"


def test_prometheus_accepts_the_scrape_file() -> None:
    """`promtool check config` finds no fault."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on this machine: THE SCRAPE FILE IS NOT CHECKED")
    command = [promtool, "check", "config", str(DEPLOY / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
