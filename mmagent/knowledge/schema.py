"""The tables of a knowledge store, and how those of older versions become them. It knows SQLite and no documents.

Triggers keep the word index and the outbox in step with the units, in the same transaction, so that no code can forget
to and no crash can come between.
"""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 2

NO_WORDS = "page"
"""The kind of unit whose words are those of other units too: it is in no word index and in no space of texts."""

TOKENIZER = "tokenize = \"porter unicode61 categories 'L* N* Co M*'\""
"""FTS5's, of texts that `lexical.segmented` has cut: letters, digits and their marks, English endings taken off."""

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # Vectors of one embedder. Another embedder opens another space; only one of each role is ever searched.
    """CREATE TABLE spaces (
        id INTEGER PRIMARY KEY, role TEXT NOT NULL CHECK (role IN ('text', 'picture')), fingerprint TEXT NOT NULL,
        dimension INTEGER NOT NULL, ready INTEGER NOT NULL DEFAULT 0, UNIQUE (role, fingerprint))""",
    # Files and texts that were given. What could not be read has a reason and no units; an archive has children.
    """CREATE TABLE assets (
        id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES assets ON DELETE CASCADE,
        tenant TEXT NOT NULL, path TEXT NOT NULL, uri TEXT NOT NULL, mime_type TEXT NOT NULL, title TEXT NOT NULL,
        digest TEXT NOT NULL, reading TEXT NOT NULL, stamp TEXT NOT NULL, bytes INTEGER NOT NULL,
        added_at REAL NOT NULL, metadata TEXT NOT NULL, reason TEXT, UNIQUE (tenant, path))""",
    "CREATE INDEX assets_of_archive ON assets(parent) WHERE parent IS NOT NULL",
    """CREATE TABLE facets (
        key TEXT NOT NULL, value NOT NULL, asset INTEGER NOT NULL REFERENCES assets ON DELETE CASCADE,
        PRIMARY KEY (key, value, asset)) WITHOUT ROWID""",
    "CREATE INDEX facets_of_asset ON facets(asset)",
    # Numbers are never used again: an index may keep them for ever.
    """CREATE TABLE units (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        asset INTEGER NOT NULL REFERENCES assets ON DELETE CASCADE, kind TEXT NOT NULL, position INTEGER NOT NULL,
        title TEXT NOT NULL, text TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL,
        page INTEGER, box TEXT, t0 REAL, t1 REAL, gap TEXT)""",
    "CREATE INDEX units_of_asset ON units(asset)",
    """CREATE TABLE vectors (
        space INTEGER NOT NULL REFERENCES spaces ON DELETE CASCADE,
        unit INTEGER NOT NULL REFERENCES units ON DELETE CASCADE, f16 BLOB NOT NULL, PRIMARY KEY (space, unit))""",
    "CREATE INDEX vectors_of_unit ON vectors(unit)",
    f"""CREATE VIEW unit_words AS
        SELECT number, segmented(title) AS title, segmented(text) AS text FROM units WHERE kind <> '{NO_WORDS}'""",
    f"""CREATE VIRTUAL TABLE lexical USING fts5(
        title, text, content = 'unit_words', content_rowid = 'number', {TOKENIZER})""",
    f"""CREATE TRIGGER unit_added AFTER INSERT ON units WHEN new.kind <> '{NO_WORDS}' BEGIN
        INSERT INTO lexical(rowid, title, text) VALUES (new.number, segmented(new.title), segmented(new.text));
    END""",
    f"""CREATE TRIGGER unit_deleted AFTER DELETE ON units WHEN old.kind <> '{NO_WORDS}' BEGIN
        INSERT INTO lexical(lexical, rowid, title, text)
        VALUES ('delete', old.number, segmented(old.title), segmented(old.text));
    END""",
    # What the Chroma index of a space has yet to learn, from the time that there is one.
    """CREATE TABLE outbox (
        space INTEGER NOT NULL, unit INTEGER NOT NULL, action TEXT NOT NULL CHECK (action IN ('upsert', 'delete')),
        PRIMARY KEY (space, unit)) WITHOUT ROWID""",
    """CREATE TRIGGER vector_added AFTER INSERT ON vectors
    WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'chroma ' || new.space || ' generation') BEGIN
        INSERT INTO outbox VALUES (new.space, new.unit, 'upsert')
        ON CONFLICT (space, unit) DO UPDATE SET action = 'upsert';
    END""",
    """CREATE TRIGGER vector_deleted AFTER DELETE ON vectors
    WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'chroma ' || old.space || ' generation') BEGIN
        INSERT INTO outbox VALUES (old.space, old.unit, 'delete')
        ON CONFLICT (space, unit) DO UPDATE SET action = 'delete';
    END""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

_RENAME_V1 = (
    "DROP TRIGGER unit_added",
    "DROP TRIGGER unit_deleted",
    "DROP TRIGGER vector_added",
    "DROP TABLE lexical",
    "DROP TABLE outbox",
    "DROP INDEX units_of_asset",
    *(f"ALTER TABLE {table} RENAME TO v1_{table}" for table in ("meta", "assets", "units", "vectors")),
)
_COPY_V1 = (
    """INSERT INTO spaces (role, fingerprint, dimension, ready)
        SELECT 'text', value, (SELECT length(f16) / 2 FROM v1_vectors LIMIT 1), 1 FROM v1_meta
        WHERE key = 'embedder' AND EXISTS (SELECT 1 FROM v1_vectors)""",
    """INSERT INTO assets SELECT id, NULL, '', path, uri, 'text/plain', '', digest, '', '', 0, 0, '{}', NULL
        FROM v1_assets""",
    """INSERT INTO units (number, id, asset, kind, position, title, text, start, "end")
        SELECT number, id, asset, 'text', number, title, text, start, "end" FROM v1_units ORDER BY number""",
    "INSERT INTO vectors SELECT spaces.id, unit, f16 FROM v1_vectors, spaces",
    *(f"DROP TABLE v1_{table}" for table in ("vectors", "units", "assets", "meta")),
)


def create(database: sqlite3.Connection) -> None:
    """Makes the tables in an empty file, in the caller's transaction."""
    for statement in _SCHEMA:
        database.execute(statement)


def migrate(database: sqlite3.Connection, version: int) -> None:
    """Makes the tables of an older version today's, in the caller's transaction.

    Passages of version 1 stay searchable as they are, with their vectors; their documents are read anew when they are
    next added, since readers have changed.
    """
    if version == 1:
        database.execute("PRAGMA legacy_alter_table = ON")  # else renaming looks at the triggers' columns
        for statement in (*_RENAME_V1, *_SCHEMA, *_COPY_V1):
            database.execute(statement)
        database.execute("PRAGMA legacy_alter_table = OFF")
