"""What every test stands on: no network, no hub, a data folder of its own, and few threads."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

ROOT = Path(__file__).parent.parent
NANO = ROOT / "mmagent" / "nano"

for name in [name for name in os.environ if name.startswith("MMAGENT_")]:
    del os.environ[name]
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False"}
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="mmagent-hf-")  # what is cached here must not change what "auto" means
os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis_settings.register_profile("slow machines", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("slow machines")
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a suite run in the background ignores Ctrl-C, its children too


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):  # AF_UNIX and its like
        return True
    if address[0] in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return False


def _guard(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any, *rest: Any) -> Any:
        if not _local(address):
            raise OSError(f"tests have no network; something connects to {address}")
        return connect(self, address, *rest)

    return guarded


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Sockets reach this machine only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guard(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guard(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data and a configuration folder for this test alone, in processes that it starts too."""
    from mmagent.settings import settings

    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MMAGENT_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("MMAGENT_CONFIG_DIR", str(home / "config"))
    settings.cache_clear()
    yield home
    settings.cache_clear()


@pytest.fixture
def no_nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the weights that ship."""
    monkeypatch.setattr("mmagent.nano.__path__", [str(tmp_path / "nano")])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures, recordings and documents that lie beside the tree."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; the shared data is not on this machine")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the weights that ship where they are missing: ``nano``, and ``nano("speech")``."""
    for marker in item.iter_markers("nano"):
        folder = NANO.joinpath(*marker.args)
        if not (folder / "config.json").is_file():
            pytest.skip(f"{folder.relative_to(ROOT)} has no weights; see docs/train.md")
