"""What the service manager hears."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controller.observe.health import Health
from tests.fake_clock import FakeClock


class _Manager:
    """A datagram socket, as systemd's."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0)

    def fill(self) -> None:
        """Send until there is no room."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.settimeout(0)
            with suppress(BlockingIOError):
                while True:
                    other.sendto(b"full", self.path)

    def heard(self) -> list[str]:
        """Everything that was sent since the last time."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(1_000).decode().partition("\n")[0])
            except BlockingIOError:
                return [each for each in found if each != "full"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[_Manager]:
    """Who starts us."""
    found = _Manager(tmp_path / "notify")
    yield found
    found.socket.close()


def test_the_service_manager_hears_each_news_once(manager: _Manager) -> None:
    """Ready, signs of life, stopping."""
    health = Health(FakeClock(), manager.path)
    health.beat()
    health.started()
    health.beat()
    health.stopping()
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.timeout(20)
def test_a_service_manager_that_does_not_read_is_not_waited_for(manager: _Manager) -> None:
    """Nothing blocks; what is news is told at the next beat with room for it."""
    health = Health(FakeClock(), manager.path)
    manager.fill()
    health.started()
    health.beat()
    assert manager.heard() == []
    health.beat()
    health.beat()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_a_service_manager_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    """Nobody is there, or nobody wants to know."""
    for address in (str(tmp_path / "nobody"), None):
        health = Health(FakeClock(), address)
        health.started()
        health.beat()
        assert health.report()["status"] == "ready"
