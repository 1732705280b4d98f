"""The truth of a knowledge store, in one SQLite file: assets, units, vectors, words, and what an index has to learn.

It knows nothing of files to take in, of embedders and of Chroma. One process writes (its owner holds the store's lock);
any number read meanwhile, each through a connection that cannot write.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from mmagent.errors import StoreError
from mmagent.knowledge.chunk import Passage
from mmagent.knowledge.filters import facets
from mmagent.knowledge.lexical import Words, segmented
from mmagent.knowledge.schema import NO_WORDS, SCHEMA_VERSION, create, migrate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARCHIVE = "application/zip"
TEXT = "text:"
"""What the path of an asset that is no file begins with."""
Role = Literal["text", "picture"]

NEEDS = {
    "text": f"(kind <> '{NO_WORDS}' AND text <> '')",
    "picture": "(kind IN ('image', 'page', 'region', 'frame'))",
}
"""Which units have a vector in the space of each role, in SQL."""


@dataclass(frozen=True, slots=True)
class AssetRow:
    """A file or text as the manifest has it."""

    tenant: str
    path: str
    uri: str
    mime_type: str = "text/plain"
    title: str = ""
    digest: str = ""
    """SHA-256 of the content; empty while it is not read to its end."""
    reading: str = ""
    """With what it was read; other readers read it again."""
    stamp: str = ""
    """Size and times of the file when it was read; where they are the same, it is not even opened."""
    bytes: int = 0
    added_at: float = 0.0
    metadata: str = "{}"
    reason: str | None = None
    """Why it could not be read."""


_NAMES = AssetRow.__slots__
_ASSET = ", ".join(_NAMES)
_PUT_ASSET = (
    f"INSERT INTO assets (parent, {_ASSET}) VALUES (?, {', '.join('?' * len(_NAMES))}) "
    f"ON CONFLICT (tenant, path) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES)} "
    "RETURNING id"
)


class Manifest:
    """A connection to the SQLite file. Safe for threads, which wait for each other.

    Args:
        path: The file.
        write: Whether to write; the tables are made, and those of an older version made today's, by the first writer.

    Raises:
        StoreError: The file is damaged, of a newer version, or the disk does not let it be used (any method).
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path, self._write, self.closed = path, write, False
        self._guard = threading.RLock()
        address = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
        with self._explained():
            self._db = sqlite3.connect(address, uri=True, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(write)
        except BaseException:
            self._db.close()
            raise
        self.words = Words(self.execute)

    def _prepare(self, write: bool) -> None:
        with self._explained():
            self._db.create_function("segmented", 1, segmented, deterministic=True)
        writing = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")
        for pragma in ("trusted_schema = ON", *(writing if write else ())):
            self.execute(f"PRAGMA {pragma}")
        version = self.schema_version
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the knowledge store in {self._path.parent} was written by a newer mmagent (its format is {version}, "
                f"this one reads {SCHEMA_VERSION}); update mmagent, or make a new store from the documents"
            )
        if write and version < SCHEMA_VERSION:
            if version:
                self.execute("PRAGMA foreign_keys = OFF")
            with self.transaction(), self._explained():
                migrate(self._db, version) if version else create(self._db)
                self.set_meta("store", uuid4().hex[:16])  # its name where it shares a server with others
            self.execute("PRAGMA foreign_keys = ON")
        if self.schema_version == SCHEMA_VERSION:
            self.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab('main', 'lexical', 'instance')")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"the knowledge store in {self._path.parent} cannot be used ({error}); {_advice(error)}"
            ) from error

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Runs a statement and gives all its rows."""
        with self._explained(), self._guard:
            return self._db.execute(sql, values).fetchall()

    def _many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._explained(), self._guard:
            self._db.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, whatever happens in between."""
        with self._guard:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.rollback()
                raise

    @property
    def schema_version(self) -> int:
        """0: an empty file."""
        return int(self.execute("PRAGMA user_version")[0][0])

    @property
    def version(self) -> tuple[int, int]:
        """Another one after every change, whoever made it; caches compare it."""
        with self._guard:
            return int(self.execute("PRAGMA data_version")[0][0]), self._db.total_changes

    def get_meta(self, key: str, default: str = "") -> str:
        """A value of the store itself."""
        rows = self.execute("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else default

    def set_meta(self, key: str, value: str) -> None:
        """Keeps a value of the store itself."""
        self.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def assets(self, tenant: str) -> dict[str, AssetRow]:
        """Path to asset, of one tenant, those that could not be read included."""
        rows = self.execute(f"SELECT {_ASSET} FROM assets WHERE tenant = ?", (tenant,))
        return {row[1]: AssetRow(*row) for row in rows}

    def asset(self, tenant: str, path: str) -> tuple[int, AssetRow] | None:
        """An asset and its number."""
        rows = self.execute(f"SELECT id, {_ASSET} FROM assets WHERE tenant = ? AND path = ?", (tenant, path))
        return (int(rows[0][0]), AssetRow(*rows[0][1:])) if rows else None

    def asset_of(self, number: int) -> AssetRow | None:
        """The asset of a number."""
        rows = self.execute(f"SELECT {_ASSET} FROM assets WHERE id = ?", (number,))
        return AssetRow(*rows[0]) if rows else None

    @property
    def has_tenants(self) -> bool:
        """Whether anything belongs to somebody."""
        return bool(self.execute("SELECT EXISTS (SELECT 1 FROM assets WHERE tenant > '')")[0][0])

    def unit_counts(self, tenant: str) -> dict[str, int]:
        """Path to how many units, of the assets of a tenant."""
        counted = "SELECT path, count(*) FROM assets JOIN units ON asset = assets.id WHERE tenant = ? GROUP BY asset"
        return dict(self.execute(counted, (tenant,)))

    def asset_with(self, unit: str) -> AssetRow | None:
        """The asset that a unit is of, by its id."""
        rows = self.execute("SELECT asset FROM units WHERE id = ?", (unit,))
        return self.asset_of(rows[0][0]) if rows else None

    def put_asset(self, row: AssetRow, parent: int | None = None) -> int:
        """Adds an asset or replaces what is known of it; its units stay. In a transaction. Returns its number."""
        values = (parent, *(getattr(row, name) for name in _NAMES))
        asset = int(self.execute(_PUT_ASSET, values)[0][0])
        if row.metadata != "{}" or self.execute("SELECT 1 FROM facets WHERE asset = ? LIMIT 1", (asset,)):
            self.execute("DELETE FROM facets WHERE asset = ?", (asset,))
            rows = [(key, value, asset) for key, value in facets(json.loads(row.metadata))]
            self._many("INSERT OR IGNORE INTO facets (key, value, asset) VALUES (?, ?, ?)", rows)
        return asset

    def put_units(self, asset: int, units: Mapping[str, Passage]) -> None:
        """Makes ``units`` those of an asset: those it has keep their vectors. In a transaction."""
        known = self.unit_ids(asset)
        self._many("DELETE FROM units WHERE id = ?", [(gone,) for gone in known - units.keys()])
        places = [(unit, asset, position, passage) for position, (unit, passage) in enumerate(units.items())]
        self._many(
            'UPDATE units SET position = ?, start = ?, "end" = ?, page = ?, box = ?, t0 = ?, t1 = ?, gap = ? '
            "WHERE id = ?",
            [(at, *passage.place, unit) for unit, _, at, passage in places if unit in known],
        )
        self._many(
            'INSERT INTO units (id, asset, position, kind, title, text, start, "end", page, box, t0, t1, gap) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(unit, asset, at, p.kind, p.title, p.text, *p.place) for unit, _, at, p in places if unit not in known],
        )

    def unit_ids(self, asset: int, space: int | None = None) -> set[str]:
        """The units of an asset; only those with a vector in a space, where one is given."""
        held = "" if space is None else "AND EXISTS (SELECT 1 FROM vectors WHERE space = ? AND unit = number)"
        values = (asset,) if space is None else (asset, space)
        return {row[0] for row in self.execute(f"SELECT id FROM units WHERE asset = ? {held}", values)}

    def remove_asset(self, tenant: str, path: str) -> int:
        """Takes an asset out, with what is in it; how many were there."""
        return len(self.execute("DELETE FROM assets WHERE tenant = ? AND path = ? RETURNING id", (tenant, path)))

    def space(self, role: Role, fingerprint: str) -> tuple[int, int, bool] | None:
        """Number, dimension, and whether every unit that should has its vector in it."""
        rows = self.execute(
            "SELECT id, dimension, ready FROM spaces WHERE role = ? AND fingerprint = ?", (role, fingerprint)
        )
        return (int(rows[0][0]), int(rows[0][1]), bool(rows[0][2])) if rows else None

    def spaces(self) -> list[tuple[int, Role, str, int, int]]:
        """Number, role, fingerprint, dimension and vectors of each space."""
        return self.execute(
            "SELECT id, role, fingerprint, dimension, (SELECT count(*) FROM vectors WHERE space = id) FROM spaces"
        )

    def open_space(self, role: Role, fingerprint: str, dimension: int) -> int:
        """The number of a space, made if it is not there; `keep_only` says that it is ready."""
        self.execute(
            "INSERT INTO spaces (role, fingerprint, dimension) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (role, fingerprint, dimension),
        )
        found = self.space(role, fingerprint)
        assert found is not None
        return found[0]

    def keep_only(self, role: Role, space: int) -> None:
        """A space is ready, and those of other embedders go. In a transaction."""
        self.execute("UPDATE spaces SET ready = 1 WHERE id = ?", (space,))
        for (other,) in self.execute("SELECT id FROM spaces WHERE role = ? AND id <> ?", (role, space)):
            self.execute("DELETE FROM vectors WHERE space = ?", (other,))
            self.execute("DELETE FROM outbox WHERE space = ?", (other,))
            self.execute("DELETE FROM meta WHERE key LIKE ?", (f"chroma {other} %",))
            self.execute("DELETE FROM spaces WHERE id = ?", (other,))

    def lacking(self, role: Role, space: int, after: int, limit: int) -> list[tuple[int, str, str]]:
        """Number, title and text of units that have no vector in a space and should have one, by number."""
        return self.execute(
            f"SELECT number, title, text FROM units WHERE number > ? AND {NEEDS[role]} "
            "AND NOT EXISTS (SELECT 1 FROM vectors WHERE space = ? AND unit = number) ORDER BY number LIMIT ?",
            (after, space, limit),
        )

    def put_vectors(self, space: int, vectors: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
        """Gives units (by id) their vectors ``[D]``. In a transaction."""
        rows = [(space, vector.astype("<f2").tobytes(), unit) for unit, vector in vectors]
        self._many(
            "INSERT OR REPLACE INTO vectors (space, unit, f16) SELECT ?, number, ? FROM units WHERE id = ?", rows
        )

    def put_numbered(self, space: int, vectors: Iterable[tuple[int, NDArray[np.float32]]]) -> None:
        """Gives units (by number) their vectors ``[D]``. In a transaction."""
        rows = [(space, vector.astype("<f2").tobytes(), number) for number, vector in vectors]
        self._many("INSERT OR REPLACE INTO vectors (space, f16, unit) VALUES (?, ?, ?)", rows)

    def numbers(self, space: int) -> NDArray[np.int64]:
        """The numbers of the units with a vector in a space, ascending."""
        import numpy as np

        rows = self.execute("SELECT unit FROM vectors WHERE space = ? ORDER BY unit", (space,))
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def rows(self, space: int, numbers: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors ``[N, D]`` of units by number, in their order."""
        import numpy as np

        found = self.execute(
            "SELECT f16 FROM json_each(?) AS wanted CROSS JOIN vectors ON space = ? AND unit = wanted.value",
            (json.dumps(numbers.tolist()), space),
        )
        if len(found) != len(numbers):
            raise StoreError(f"the knowledge store in {self._path.parent} has lost vectors; run: mmagent store rebuild")
        return np.frombuffer(b"".join(row[0] for row in found), "<f2").reshape(len(found), -1 if found else 0)

    def lexical(self, query: str, k: int, allowed: bytes | None = None) -> list[tuple[int, float]]:
        """The numbers of the ``k`` units with the best BM25 for any of the query's words, best first.

        Args:
            query: Any text at all.
            k: How many at most.
            allowed: A byte for each number, 0 where the unit must not be found; all may by default.
        """
        with self._guard:
            self.execute("BEGIN")  # what is read of the words is of one moment, whoever writes meanwhile
            try:
                return self.words.search(query, k, self.version, allowed)
            finally:
                self.execute("COMMIT")

    def select(self, condition: str, values: Sequence[Any]) -> NDArray[np.int64]:
        """The numbers of the units for which a condition on ``units u`` and ``assets a`` holds, ascending."""
        import numpy as np

        rows = self.execute(
            f"SELECT u.number FROM units u JOIN assets a ON a.id = u.asset WHERE {condition} ORDER BY u.number", values
        )
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def units(self, numbers: Sequence[int], condition: str = "1", values: Sequence[Any] = ()) -> dict[int, sqlite3.Row]:
        """Number to all there is to know of a unit, its asset's ``path``, ``uri``, ``metadata`` ... included.

        Args:
            numbers: Which.
            condition: On ``units u`` and ``assets a``; others are left out.
            values: Of the condition.
        """
        chosen = f"u.number IN (SELECT value FROM json_each(?)) AND ({condition})"
        return {row["number"]: row for row in self._named(chosen, (json.dumps(list(numbers)), *values))}

    def units_of(self, tenant: str, uri: str) -> list[sqlite3.Row]:
        """The units of the assets of a uri in order, of a tenant's and nobody's."""
        return self._named("a.tenant IN ('', ?) AND a.uri = ?", (tenant, uri))

    def _named(self, condition: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        sql = (
            "SELECT u.*, a.tenant, a.path, a.uri, a.mime_type, a.metadata FROM units u JOIN assets a ON a.id = u.asset "
            f"WHERE {condition} ORDER BY a.id, u.position"
        )
        with self._explained(), self._guard:
            cursor = self._db.cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(sql, values).fetchall()

    def count(self, table: str, condition: str = "1") -> int:
        """Rows of a table; ``lexical``: units in the word index."""
        counted = {"lexical": "lexical_docsize"}.get(table, table)
        return int(self.execute(f"SELECT count(*) FROM {counted} WHERE {condition}")[0][0])

    def pending(self, space: int, limit: int) -> list[tuple[int, str]]:
        """Unit and ``upsert`` or ``delete``, for what the index of a space has yet to learn."""
        return self.execute(
            "SELECT unit, action FROM outbox WHERE space = ? ORDER BY unit LIMIT ?", (space, min(limit, 2**62))
        )

    def settle(self, space: int, action: str, units: Iterable[int]) -> None:
        """The index has learned these, where they are still to be learned as that."""
        rows = [(space, unit, action) for unit in units]
        with self.transaction():
            self._many("DELETE FROM outbox WHERE space = ? AND unit = ? AND action = ?", rows)

    def refill_outbox(self, space: int) -> None:
        """An empty index has everything to learn. In a transaction."""
        self.execute("DELETE FROM outbox WHERE space = ?", (space,))
        self.execute("INSERT INTO outbox SELECT space, unit, 'upsert' FROM vectors WHERE space = ?", (space,))

    def close(self) -> None:
        """Closes the file; a writer leaves all of it in one."""
        with self._guard:
            self.closed = True
            if self._write:
                with suppress(sqlite3.Error):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return "it is damaged: delete that folder and add the documents again"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process is busy with it; try again"
    return "look whether the disk is full or read-only"
