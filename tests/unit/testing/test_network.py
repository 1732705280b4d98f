from __future__ import annotations

import _socket
import importlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmagent.testing import NetworkDisabled, no_network

FAR = ("192.0.2.1", 9)


def connect(address: tuple[str, int] = FAR) -> None:
    with socket.socket() as one:
        one.settimeout(1)
        _socket.socket.connect(one, address)  # this suite has a guard of its own on the class above it


def test_nothing_reaches_the_network() -> None:
    with no_network() as attempts:
        with pytest.raises(NetworkDisabled, match=r"tried to reach 192\.0\.2\.1:9"):
            connect()
        with pytest.raises(NetworkDisabled, match=r"example\.org"):
            socket.getaddrinfo("example.org", 443)
        with pytest.raises(NetworkDisabled), socket.socket(type=socket.SOCK_DGRAM) as one:
            one.sendto(b"x", FAR)
        with pytest.raises(NetworkDisabled), socket.socket(socket.AF_INET6) as one:
            _socket.socket.connect_ex(one, ("2001:db8::1", 9))
    assert attempts == ["192.0.2.1:9", "example.org", "192.0.2.1:9", "2001:db8::1:9"]


def test_importing_or_reloading_socket_does_not_undo_it() -> None:
    with no_network():
        one = _socket.socket()
        with pytest.raises(NetworkDisabled):
            one.connect(FAR)
        one.close()
        saved = sys.modules.pop("socket")
        try:
            fresh = importlib.import_module("socket")
            assert fresh.socket is not socket.socket
            with pytest.raises(NetworkDisabled), fresh.socket() as other:
                other.connect(FAR)
        finally:
            sys.modules["socket"] = saved


def test_other_threads_are_held_too() -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            connect()
        except OSError as error:
            raised.append(error)

    with no_network():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert isinstance(raised[0], NetworkDisabled)


def test_this_machine_may_be_reached_unless_it_may_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with no_network():
            connect(server.getsockname())
            socket.getaddrinfo("localhost", 80)
        with no_network(loopback=False), pytest.raises(NetworkDisabled):
            connect(server.getsockname())
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as one:
        listener.bind(path)
        listener.listen()
        with no_network(loopback=False):
            one.connect(path)


def test_the_hub_is_offline_and_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with no_network():
        with no_network():
            assert constants.is_offline_mode()
        assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert not constants.is_offline_mode()
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert "TRANSFORMERS_OFFLINE" not in os.environ


def test_a_hub_imported_meanwhile_is_not_offline_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    with no_network(), no_network():
        constants = importlib.import_module("huggingface_hub.constants")
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


PLUGGED = """
import socket, pytest
from mmagent.settings import settings
from mmagent.testing import NetworkDisabled

def test_held(no_network, own_home):
    with pytest.raises(NetworkDisabled):
        socket.socket().connect(("192.0.2.1", 9))
    assert no_network == ["192.0.2.1:9"]
    assert settings().data_dir == own_home / "data"
    assert settings().model == "auto"

@pytest.mark.network
def test_free(no_network):
    one = socket.socket()
    one.setblocking(False)
    try:
        one.connect(("192.0.2.1", 9))
    except NetworkDisabled:
        raise AssertionError
    except OSError:
        pass
"""


def test_the_plugin_holds_every_test_but_the_marked(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mmagent.testing.pytest"]')
    (tmp_path / "test_it.py").write_text(PLUGGED)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "--rootdir", "."]
    environment = {**os.environ, "MMAGENT_MODEL": "openai:gpt-5"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
