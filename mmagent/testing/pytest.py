"""A plugin for pytest: ``pytest_plugins = ["mmagent.testing.pytest"]`` in a ``conftest.py``. It knows pytest.

No test reaches the network but those marked ``@pytest.mark.network``, and each has data and settings of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmagent.testing.network import no_network as _no_network


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "network: may reach the network")


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Sockets reach this machine only, and the hub is offline; the value is what was refused."""
    if request.node.get_closest_marker("network"):
        yield []
        return
    with _no_network() as attempts:
        yield attempts


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data and a configuration folder for this test alone, and no settings from the environment."""
    from mmagent.settings import settings

    home = tmp_path_factory.mktemp("mmagent")
    for name in [name for name in os.environ if name.startswith("MMAGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MMAGENT_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("MMAGENT_CONFIG_DIR", str(home / "config"))
    settings.cache_clear()
    yield home
    settings.cache_clear()
