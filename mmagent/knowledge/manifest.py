"""The truth of a knowledge store, in one SQLite file: assets, units, vectors, words, and what the index has to learn.

It knows nothing of files to take in, of embedders and of Chroma. Triggers keep the word index and the outbox in step
with the units, in the same transaction, so that no code can forget to and no crash can come between.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.errors import StoreError
from mmagent.knowledge.chunk import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA_VERSION = 1
MAX_QUERY_TERMS = 64
"""Words of a query that are looked up; more would only make it slow."""

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE assets (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, uri TEXT NOT NULL, digest TEXT NOT NULL)",
    """CREATE TABLE units (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, asset INTEGER NOT NULL REFERENCES assets ON DELETE CASCADE,
        title TEXT NOT NULL, text TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL)""",
    "CREATE INDEX units_of_asset ON units(asset)",
    "CREATE TABLE vectors (unit INTEGER PRIMARY KEY REFERENCES units ON DELETE CASCADE, f16 BLOB NOT NULL)",
    """CREATE VIRTUAL TABLE lexical USING fts5(
        title, text, content='units', content_rowid='number', tokenize='porter unicode61')""",
    "CREATE TABLE outbox (unit TEXT PRIMARY KEY, action TEXT NOT NULL CHECK (action IN ('upsert', 'delete')))",
    """CREATE TRIGGER unit_added AFTER INSERT ON units BEGIN
        INSERT INTO lexical(rowid, title, text) VALUES (new.number, new.title, new.text);
    END""",
    """CREATE TRIGGER unit_deleted AFTER DELETE ON units BEGIN
        INSERT INTO lexical(lexical, rowid, title, text) VALUES ('delete', old.number, old.title, old.text);
        INSERT INTO outbox VALUES (old.id, 'delete') ON CONFLICT (unit) DO UPDATE SET action = 'delete';
    END""",
    """CREATE TRIGGER vector_added AFTER INSERT ON vectors BEGIN
        INSERT INTO outbox SELECT id, 'upsert' FROM units WHERE number = new.unit
        ON CONFLICT (unit) DO UPDATE SET action = 'upsert';
    END""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


@dataclass(frozen=True)
class Unit:
    """A passage with its identity: the hash of its document's path, its title and its text."""

    id: str
    passage: Passage

    @property
    def embedded(self) -> str:
        """What stands for it in the vector space."""
        return f"{self.passage.title}\n{self.passage.text}"


def units_of(path: str, passages: Iterable[Passage]) -> list[Unit]:
    """Units of a document. A passage that only moved keeps its id, and so its vector; copies differ by order."""
    seen: dict[str, int] = {}
    units = []
    for passage in passages:
        content = f"{path}\0{passage.title}\0{passage.text}"
        seen[content] = seen.get(content, 0) + 1
        name = f"{content}\0{seen[content]}".encode()
        units.append(Unit(hashlib.blake2b(name, digest_size=16).hexdigest(), passage))
    return units


class Manifest:
    """The SQLite file. Not thread-safe: its owner holds a lock.

    Raises:
        StoreError: The file is damaged, of a newer version, or the disk does not let it be used (any method).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            self._db = sqlite3.connect(path, timeout=2, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._all(f"PRAGMA {pragma}")
        version = self._all("PRAGMA user_version")[0][0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the knowledge store in {self._path.parent} was written by a newer mmagent (its format is {version}, "
                f"this one reads {SCHEMA_VERSION}); update mmagent, or delete that folder: it is built again from the "
                "documents"
            )
        if version == 0:
            with self.transaction():
                for statement in _SCHEMA:
                    self._all(statement)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"the knowledge store in {self._path.parent} cannot be used ({error}); look whether the disk is full "
                "or read-only, else delete that folder: it is built again from the documents"
            ) from error

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, whatever happens in between."""
        self._all("BEGIN IMMEDIATE")
        try:
            yield
            self._all("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.rollback()
            raise

    @property
    def changes(self) -> int:
        """Grows with every row that is written; caches compare it."""
        return self._db.total_changes

    def get_meta(self, key: str, default: str = "") -> str:
        """A value of the store itself, e.g. its embedder's fingerprint."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else default

    def set_meta(self, key: str, value: str) -> None:
        """Keeps a value of the store itself."""
        self._all("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))

    # Documents

    def digests(self) -> dict[str, tuple[str, str]]:
        """Path to (digest of the content, uri) of every document."""
        return {path: (digest, uri) for path, digest, uri in self._all("SELECT path, digest, uri FROM assets")}

    def unit_ids(self, path: str) -> set[str]:
        """The units of a document."""
        rows = self._all("SELECT units.id FROM units JOIN assets ON assets.id = asset WHERE path = ?", (path,))
        return {row[0] for row in rows}

    def put(
        self, path: str, uri: str, digest: str, units: Sequence[Unit], vectors: dict[str, NDArray[np.float32]]
    ) -> None:
        """Makes ``units`` those of a document; ``vectors`` has the vectors of new ones. In a transaction."""
        self._all(
            "INSERT INTO assets (path, uri, digest) VALUES (?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET uri = excluded.uri, digest = excluded.digest",
            (path, uri, digest),
        )
        asset = self._all("SELECT id FROM assets WHERE path = ?", (path,))[0][0]
        known = self.unit_ids(path)
        for gone in known - {unit.id for unit in units}:
            self._all("DELETE FROM units WHERE id = ?", (gone,))
        for unit in units:
            span = (unit.passage.start, unit.passage.end)
            if unit.id in known:
                self._all('UPDATE units SET start = ?, "end" = ? WHERE id = ?', (*span, unit.id))
                continue
            self._all(
                'INSERT INTO units (id, asset, title, text, start, "end") VALUES (?, ?, ?, ?, ?, ?)',
                (unit.id, asset, unit.passage.title, unit.passage.text, *span),
            )
            self._add_vector(unit.id, vectors[unit.id])

    def rename(self, path: str, uri: str) -> None:
        """Gives a document another uri."""
        self._all("UPDATE assets SET uri = ? WHERE path = ?", (uri, path))

    def remove(self, path: str) -> None:
        """Takes a document and its units out."""
        self._all("DELETE FROM assets WHERE path = ?", (path,))

    # Vectors

    def _add_vector(self, unit: str, vector: NDArray[np.float32]) -> None:
        self._all(
            "INSERT INTO vectors SELECT number, ? FROM units WHERE id = ?", (vector.astype("<f2").tobytes(), unit)
        )

    def embedded_texts(self) -> list[tuple[str, str]]:
        """Id and embedded text of every unit."""
        return self._all("SELECT id, title || char(10) || text FROM units ORDER BY number")

    def replace_vectors(self, vectors: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
        """Gives every unit another vector. In a transaction."""
        self._all("DELETE FROM vectors")
        for unit, vector in vectors:
            self._add_vector(unit, vector)

    def matrix(self) -> tuple[list[str], NDArray[np.float32]]:
        """All unit ids and their vectors, ``[N, D]`` float32, in the same order."""
        import numpy as np

        rows = self._all("SELECT id, f16 FROM vectors JOIN units ON number = unit ORDER BY number")
        if not rows:
            return [], np.zeros((0, 0), dtype=np.float32)
        flat = np.frombuffer(b"".join(blob for _, blob in rows), dtype="<f2")
        return [unit for unit, _ in rows], flat.reshape(len(rows), -1).astype(np.float32)

    # Search

    def lexical(self, query: str, k: int) -> list[str]:
        """Ids of the ``k`` units with the best BM25 for any of the query's words. No text is an invalid query."""
        words = dict.fromkeys(re.findall(r"\w+", query))
        match = " OR ".join(f'"{word}"' for word in list(words)[:MAX_QUERY_TERMS])
        if not match:
            return []
        rows = self._all(
            "SELECT id FROM lexical JOIN units ON number = lexical.rowid WHERE lexical MATCH ? "
            "ORDER BY bm25(lexical), number LIMIT ?",
            (match, k),
        )
        return [row[0] for row in rows]

    def units(self, ids: Sequence[str]) -> dict[str, tuple[str, Passage]]:
        """Id to (uri, passage)."""
        rows = self._all(
            'SELECT units.id, uri, title, text, start, "end" FROM units JOIN assets ON assets.id = asset '
            "WHERE units.id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids),),
        )
        return {unit: (uri, Passage(title, text, start, end)) for unit, uri, title, text, start, end in rows}

    # Outbox

    def pending(self, limit: int) -> list[tuple[str, str, bytes | None]]:
        """Unit, ``upsert`` or ``delete``, and its vector (f16), for what the index has yet to learn."""
        return self._all(
            "SELECT outbox.unit, action, f16 FROM outbox LEFT JOIN units ON units.id = outbox.unit "
            "LEFT JOIN vectors ON vectors.unit = number LIMIT ?",
            (limit,),
        )

    def settle(self, units: Sequence[str]) -> None:
        """The index has learned these."""
        with self.transaction():
            for unit in units:
                self._all("DELETE FROM outbox WHERE unit = ?", (unit,))

    def refill_outbox(self) -> None:
        """An empty index has everything to learn. In a transaction."""
        self._all("DELETE FROM outbox")
        self._all("INSERT INTO outbox SELECT id, 'upsert' FROM units JOIN vectors ON unit = number")

    # Health

    def count(self, table: str) -> int:
        """Rows of ``assets``, ``units``, ``vectors``, ``outbox`` or ``lexical`` (documents in the word index)."""
        counted = {"lexical": "lexical_docsize"}.get(table, table)
        return int(self._all(f"SELECT count(*) FROM {counted}")[0][0])

    def outbox(self) -> dict[str, str]:
        """Unit to ``upsert`` or ``delete``."""
        return dict(self._all("SELECT unit, action FROM outbox"))

    def problems(self) -> list[str]:
        """What is wrong with the file; nothing, if all is well."""
        found = [f"SQLite: {row[0]}" for row in self._all("PRAGMA quick_check(5)") if row[0] != "ok"]
        found += [f"a row of {row[0]} points nowhere" for row in self._all("PRAGMA foreign_key_check")]
        units = self.count("units")
        for table in ("vectors", "lexical"):
            if (count := self.count(table)) != units:
                found.append(f"{units} units, but {count} in {table}")
        try:
            self._all("INSERT INTO lexical(lexical, rank) VALUES ('integrity-check', 1)")
        except StoreError as error:
            found.append(f"the word index does not match the units ({error.__cause__})")
        lost = self._all(
            "SELECT count(*) FROM outbox LEFT JOIN units ON id = unit WHERE (action = 'upsert') = (id IS NULL)"
        )
        if lost[0][0]:
            found.append(f"{lost[0][0]} rows of the outbox contradict the units")
        return found

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
