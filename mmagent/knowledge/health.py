"""What a store holds, whether it is sound, and how it is mended. It knows the manifest's tables."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmagent.errors import StoreError
from mmagent.knowledge.manifest import ARCHIVE, NEEDS, Manifest
from mmagent.knowledge.schema import NO_WORDS
from mmagent.knowledge.spaces import is_ready


@dataclass(frozen=True)
class Space:
    """Vectors of one embedder."""

    role: str
    """``text`` or ``picture``."""
    fingerprint: str
    dimension: int
    vectors: int


@dataclass(frozen=True)
class Stats:
    """What a store holds."""

    documents: int = 0
    units: int = 0
    pending: int = 0
    """Vectors that the Chroma index has yet to learn; it is made only once there are too many for exact search."""
    search: Literal["exact", "chroma"] = "exact"
    spaces: tuple[Space, ...] = ()
    tenants: int = 0
    refused: int = 0
    """Files that could not be read when they were last looked at."""
    bytes: int = 0
    """On disk."""


def stats(manifest: Manifest, search: Literal["exact", "chroma"], folder: Path) -> Stats:
    """What a store holds."""
    return Stats(
        documents=manifest.count("assets", f"reason IS NULL AND mime_type <> '{ARCHIVE}'"),
        units=manifest.count("units"),
        pending=manifest.count("outbox"),
        search=search,
        spaces=tuple(Space(*row[1:]) for row in manifest.spaces()),
        tenants=manifest.execute("SELECT count(DISTINCT tenant) FROM assets WHERE tenant > ''")[0][0],
        refused=manifest.count("assets", "reason IS NOT NULL"),
        bytes=_size(folder),
    )


def problems(manifest: Manifest) -> list[str]:
    """What is wrong with the manifest of a writer, in words; nothing, if all is well."""
    found = [f"SQLite: {row[0]}" for row in manifest.execute("PRAGMA quick_check(5)") if row[0] != "ok"]
    found += [f"a row of {row[0]} points nowhere" for row in manifest.execute("PRAGMA foreign_key_check")]
    units, indexed = manifest.count("units", f"kind <> '{NO_WORDS}'"), manifest.count("lexical")
    if units != indexed:
        found.append(f"{units} units with words, but {indexed} in the word index")
    try:
        manifest.execute("INSERT INTO lexical(lexical, rank) VALUES ('integrity-check', 1)")
    except StoreError as error:
        found.append(f"the word index does not match the units ({error.__cause__})")
    for space, role, fingerprint, dimension, vectors in manifest.spaces():
        if not is_ready(manifest, role, fingerprint):  # it is being filled
            continue
        needed, odd = manifest.count("units", NEEDS[role]), manifest.count("vectors", _odd(space, dimension))
        if vectors > needed or (role == "text" and vectors < needed):  # a picture whose file is gone cannot be embedded
            found.append(f"{needed} units for the {role} space {fingerprint}, but {vectors} in vectors")
        if odd:
            found.append(f"{odd} vectors of the {role} space {fingerprint} are not of {dimension} numbers")
    lost = manifest.execute(
        "SELECT count(*) FROM outbox LEFT JOIN vectors USING (space, unit) WHERE (action = 'upsert') = (f16 IS NULL)"
    )
    if lost[0][0]:
        found.append(f"{lost[0][0]} rows of the outbox contradict the vectors")
    return found


def rebuild(manifest: Manifest) -> None:
    """Makes anew what follows from units. Vectors that cannot be right go, and are embedded again by the next `add`."""
    with manifest.transaction():
        manifest.execute("INSERT INTO lexical(lexical) VALUES ('rebuild')")
        manifest.execute("DELETE FROM vectors WHERE unit NOT IN (SELECT number FROM units)")
        for space, role, _, dimension, _ in manifest.spaces():
            manifest.execute(f"DELETE FROM vectors WHERE {_odd(space, dimension)}")
            if manifest.lacking(role, space, 0, 1):
                manifest.execute("UPDATE spaces SET ready = 0 WHERE id = ?", (space,))


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # files of SQLite come and go
            total += file.stat().st_size if file.is_file() else 0
    return total


def _odd(space: int, dimension: int) -> str:
    return f"space = {int(space)} AND length(f16) <> {2 * int(dimension)}"
