"""No network, for as long as a context lasts. It knows sockets and the hub's switches, and nothing of who uses them.

It listens to the interpreter's own audit events, so code under test cannot get around it by importing or reloading
`socket`. Not seen are other processes, and libraries that call the system's sockets themselves.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_CONNECTS = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
_LOOKUPS = frozenset(("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"))
_HUB = "huggingface_hub.constants"
_lock = threading.Lock()
_guards: list[_Guard] = []


class NetworkDisabled(OSError):
    """Something tried to reach the network inside `no_network`."""


class _Guard:
    def __init__(self, loopback: bool) -> None:
        self.loopback = loopback
        self.attempts: list[str] = []


@contextlib.contextmanager
def no_network(*, loopback: bool = True) -> Iterator[list[str]]:
    """Refuse every connection and every look-up of a name, in all threads; the Hugging Face hub is offline.

    Args:
        loopback: Whether this machine's own addresses may be reached; Unix sockets may always.

    Yields:
        What was refused so far, since a library may swallow the error.

    Raises:
        NetworkDisabled: In the code that tries.
    """
    guard = _Guard(loopback)
    before = {name: os.environ.get(name) for name in _OFFLINE}
    constants = sys.modules.get(_HUB)
    switch = getattr(constants, "HF_HUB_OFFLINE", None)  # it has read the environment already
    if constants:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    with _lock:
        _listen()
        _guards.append(guard)
    os.environ.update(_OFFLINE)
    try:
        yield guard.attempts
    finally:
        with _lock:
            _guards.remove(guard)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if now := sys.modules.get(_HUB):
            now.HF_HUB_OFFLINE = switch if now is constants else _says_offline()  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _listen() -> None:
    """Hooks cannot be removed; this one does nothing while there is no guard."""
    sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _guards or not event.startswith("socket."):
        return
    if event in _CONNECTS:
        address = args[1]
        if not isinstance(address, tuple):  # a Unix socket, or one that is connected already
            return
        host, target = address[0], ":".join(map(str, address[:2]))
    elif event in _LOOKUPS:
        host = target = args[0]
    else:
        return
    local = _is_local(host)
    for guard in tuple(_guards):
        if not (local and guard.loopback):
            guard.attempts.append(str(target))
            raise NetworkDisabled(
                f"there is no network in this test, and something tried to reach {target}; use a scripted model or a "
                "recording, or let the test out of no_network"
            )


def _is_local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _says_offline() -> bool:
    """What the environment says, read as the hub reads it."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in ("1", "ON", "YES", "TRUE")
