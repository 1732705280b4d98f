"""A client of Chroma for a folder, a server or Chroma Cloud. It knows no collections and no vectors.

Keys come from the environment, and are in no message. A server that is away is noticed within seconds; Chroma's own
client would wait for ever.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmagent.errors import ConfigurationError, MMAgentError, StoreError
from mmagent.redact import redacted

__all__ = ["CLOUD", "connect", "explained"]

CLOUD = "cloud"
_CLOUD_HOST = "api.trychroma.com"
_PATIENCE = 8.0
"""Seconds for one answer of a server."""
_ARRIVAL = 3.0
"""Seconds to reach a server."""


def connect(place: Path | str) -> Any:
    """A Chroma client.

    Args:
        place: A folder, which only one process may have open at a time; ``http(s)://host[:port][/tenant/database]``
            (port 8000, or 443 for https); or ``cloud``, with ``CHROMA_API_KEY``, and where they cannot be told from
            the key ``CHROMA_TENANT`` and ``CHROMA_DATABASE``, from the environment.

    Raises:
        ConfigurationError: The address cannot be one, or there is no key.
        StoreError: The server is not there, or does not let one in.
    """
    import chromadb
    from chromadb.config import Settings

    options: dict[str, Any] = {"_env_file": None, "anonymized_telemetry": False}  # the folder one is in has no say
    quiet = Settings(**options)
    if isinstance(place, Path):
        return chromadb.PersistentClient(str(place), settings=quiet)
    try:
        if place == CLOUD:
            if not (key := os.environ.get("CHROMA_API_KEY")):
                raise ConfigurationError(
                    "Chroma Cloud wants a key; set CHROMA_API_KEY, or give another place for Chroma"
                )
            _reach(f"https://{_CLOUD_HOST}")
            client = chromadb.CloudClient(api_key=key, settings=quiet)
        else:
            host, port, secure, path = _parsed(place)
            shown = f"[{host}]" if ":" in host else host
            _reach(f"{'https' if secure else 'http'}://{shown}:{port}")
            names: dict[str, Any] = dict(zip(("tenant", "database"), path, strict=False))
            client = chromadb.HttpClient(host=shown, port=port, ssl=secure, settings=quiet, **names)
    except MMAgentError:
        raise
    except Exception as error:  # Chroma's and httpx's have no base in common
        raise explained(place, error) from error
    _hurry(client)
    return client


def explained(place: str, error: Exception) -> StoreError:
    """What to tell of a server that failed."""
    what = redacted(" ".join(str(error).split()) or type(error).__name__)[:300]
    return StoreError(
        f"the Chroma server at {place} does not answer as it should ({what}); start it, or look whether its address "
        "and your rights are right"
    )


def _parsed(address: str) -> tuple[str, int, bool, list[str]]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    path = [part for part in parts.path.split("/") if part]
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if not host or not plain or parts.scheme not in ("http", "https") or len(path) not in (0, 2):
        shown = re.sub(r"//[^/@]*@", "//...@", address)[:200]
        raise ConfigurationError(
            f"{shown!r} is no place for Chroma; give http://host:port, http://host:port/tenant/database, or {CLOUD!r}"
        )
    secure = parts.scheme == "https"
    return host, port or (443 if secure else 8000), secure, path


def _reach(address: str) -> None:
    import httpx

    httpx.get(f"{address}/api/v2/heartbeat", timeout=httpx.Timeout(_PATIENCE, connect=_ARRIVAL)).raise_for_status()


def _hurry(client: Any) -> None:
    import httpx

    session = getattr(getattr(client, "_server", None), "_session", None)
    if isinstance(session, httpx.Client):
        session.timeout = httpx.Timeout(_PATIENCE, connect=_ARRIVAL)
