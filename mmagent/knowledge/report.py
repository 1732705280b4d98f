"""What is given to a store besides files, and what it says of its work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmagent.knowledge.manifest import TEXT, AssetRow


@dataclass(frozen=True)
class Text:
    """A text that comes from no file."""

    uri: str
    """Its name: adding another text of that name for the same tenant replaces it."""
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False
    """One passage, whatever its length."""


@dataclass(frozen=True)
class Progress:
    """How far an `add` is."""

    done: int
    """Documents that are taken in and durable, or refused, or unchanged."""
    total: int
    units: int
    """Passages and pictures written so far."""
    uri: str
    """The last of the documents."""


@dataclass(frozen=True)
class IndexReport:
    """What an `add` did, in documents."""

    added: int
    updated: int
    unchanged: int
    removed: int
    """Gone from a folder, or no longer readable."""
    skipped: list[tuple[str, str]]
    """Uri and reason of each file that was not taken in."""
    notes: list[tuple[str, str]]
    """Uri and what could not be read of a document that was."""


@dataclass(frozen=True)
class Asset:
    """A document in a store."""

    uri: str
    path: str
    """Of the file; empty for a text that came from none."""
    mime_type: str
    title: str
    bytes: int
    added_at: float
    """Seconds since 1970."""
    units: int
    tenant: str
    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, row: AssetRow, units: int) -> Asset:
        """What the manifest says of it."""
        return cls(
            uri=row.uri,
            path="" if row.path.startswith(TEXT) else row.path,
            mime_type=row.mime_type,
            title=row.title,
            bytes=row.bytes,
            added_at=row.added_at,
            units=units,
            tenant=row.tenant,
            metadata=json.loads(row.metadata),
        )
