"""The tables of the SQLite journal and how older ones become them. It knows rows; what they mean is in `sqlite`."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any

from mmagent.content import CORRECTION
from mmagent.errors import StoreError
from mmagent.session import contents
from mmagent.session.database import Database

SCHEMA_VERSION = 2
_APPLICATION_ID = int.from_bytes(b"mmag")
_TABLES = """
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  parent TEXT,
  since INTEGER NOT NULL,  -- the last row of entries when it began: rows tell what comes first in a list, not clocks
  entries INTEGER NOT NULL,
  created TEXT NOT NULL,
  updated TEXT NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE TABLE entries (
  id INTEGER PRIMARY KEY,
  session TEXT NOT NULL,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  data TEXT NOT NULL,
  created TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  UNIQUE (session, seq)
);
CREATE TABLE media (
  session TEXT NOT NULL,
  file_id TEXT NOT NULL,
  seq INTEGER NOT NULL,  -- of the first entry that refers to it
  PRIMARY KEY (session, file_id)
) WITHOUT ROWID;
CREATE TABLE searched (through INTEGER NOT NULL);  -- the last row of entries whose words are in said
INSERT INTO searched VALUES (0);
CREATE VIRTUAL TABLE said USING fts5(words, content='', detail=none, columnsize=0, tokenize="ascii tokenchars '_'");
"""


def prepare(database: Database) -> int:
    """Make or migrate the tables, in one transaction, and return the number of the last entry ever written.

    Raises:
        StoreError: The file is another program's, or was written by a newer mmagent.
    """
    if _version(database) == 0:
        with database.atomic():
            if _version(database) == 0:  # a process without our lock may have been quicker
                if _value(database, "SELECT count(*) FROM sqlite_master"):
                    raise _not_ours(database)
                _create(database.connection)
                database.connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    if _value(database, "PRAGMA application_id") != _APPLICATION_ID:
        raise _not_ours(database)
    version = _version(database)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{database.path} was written by a newer mmagent (its schema is {version}, this one knows"
            f" {SCHEMA_VERSION}); upgrade with: pip install -U mmagent"
        )
    if version == 1:
        with database.atomic():
            if _version(database) == 1:
                _from_version_1(database.connection)
    return last_row(database.connection)


def last_row(connection: sqlite3.Connection) -> int:
    """The number of the last row of entries; 0: there is none."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0])


def dump(data: Mapping[str, Any]) -> str:
    """The JSON of an entry.

    Raises:
        TypeError: It is no JSON.
    """
    text = json.dumps(data, ensure_ascii=False)
    return text if text.isascii() or _whole(text) else json.dumps(data)


def checksum(*values: object) -> int:
    """What tells a row that was changed by accident."""
    return zlib.crc32("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


def add_session(connection: sqlite3.Connection, name: str, parent: str | None, created: str) -> str:
    """Insert a session without entries and return its id."""
    id = secrets.token_hex(10)
    connection.execute(
        "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5, ?6)",
        (id, name, parent, last_row(connection), created, checksum(id, name, parent)),
    )
    return id


def add_entry(
    connection: sqlite3.Connection,
    session: str,
    seq: int,
    kind: str,
    data: str,
    created: str,
    parsed: Mapping[str, Any],
) -> int:
    """Insert an entry and the media that it refers to; return its row. Its words are left to `make_searchable`."""
    row = connection.execute(
        "INSERT INTO entries (session, seq, kind, data, created, checksum) VALUES (?, ?, ?, ?, ?, ?)",
        (session, seq, kind, data, created, checksum(seq, kind, data)),
    ).lastrowid
    assert row is not None
    if "sha256:" in data:
        connection.executemany(
            "INSERT OR IGNORE INTO media VALUES (?, ?, ?)",
            [(session, file_id, seq) for file_id in contents.media(parsed)],
        )
    return row


def make_searchable(connection: sqlite3.Connection) -> None:
    """Bring the search index up to date. It costs more than an entry does, so not each entry waits for it.

    A damaged entry is left out: who reads its session is told, and the others go on.
    """
    through = connection.execute("SELECT through FROM searched").fetchone()[0]
    rows = connection.execute("SELECT id, seq, kind, data, checksum FROM entries WHERE id > ?", (through,)).fetchall()
    for row, *entry in rows:
        if words := _words(*entry):
            connection.execute("INSERT INTO said (rowid, words) VALUES (?, ?)", (row, words))
    if rows:
        connection.execute("UPDATE searched SET through = ?", (last_row(connection),))


def forget_words(connection: sqlite3.Connection, session: str) -> None:
    """Take the words of a session's entries out of the search index."""
    rows = connection.execute(
        "SELECT id, seq, kind, data, checksum FROM entries WHERE session = ? AND id <= (SELECT through FROM searched)",
        (session,),
    ).fetchall()
    for row, *entry in rows:
        words = _words(*entry)
        if words is None:  # nobody knows what the index has of it, so all is looked at again
            connection.execute("INSERT INTO said (said) VALUES ('delete-all')")
            connection.execute("UPDATE searched SET through = 0")
            return
        if words:
            connection.execute("INSERT INTO said (said, rowid, words) VALUES ('delete', ?, ?)", (row, words))


def _words(seq: int, kind: str, data: str, check: int) -> str | None:
    """What the search index has of an entry; to take it out again, it must be given the same. None: damaged."""
    if checksum(seq, kind, data) != check:
        return None
    if kind != "message":
        return ""
    return " ".join(sorted(contents.terms(contents.said(kind, json.loads(data)))))


def _create(connection: sqlite3.Connection) -> None:
    for statement in re.sub(r" *--.*", "", _TABLES).split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _from_version_1(connection: sqlite3.Connection) -> None:
    """Version 1 had one table, knew sessions by their names, and did not write down where a turn ends."""
    connection.execute("ALTER TABLE entries RENAME TO old")
    _create(connection)
    ids: dict[str, str] = {}
    last: dict[str, tuple[int, str, dict[str, Any], str]] = {}
    for name, seq, kind, text, created in connection.execute(
        "SELECT session, seq, kind, data, created FROM old ORDER BY id"
    ):
        if name not in ids:
            ids[name] = add_session(connection, name, None, created)
        data = json.loads(text)
        if kind == "tool_intent":
            kind = "intent"
            data = {key: data.get(key, "") for key in ("id", "name", "effect")} | {"key": "", "digest": ""}
            text = dump(data)
        elif kind == "message" and _corrects(message := data.get("message") or {}):
            message["name"] = CORRECTION
            text = dump(data)
        add_entry(connection, ids[name], seq, kind, text, created, data)
        last[name] = (seq, kind, data, created)
    for name, (seq, kind, data, created) in last.items():
        if how := _ended(kind, data):
            seq, data = seq + 1, {"how": how, "usage": {}, "citations": []}
            add_entry(connection, ids[name], seq, "ended", dump(data), created, data)
        connection.execute("UPDATE sessions SET entries = ?, updated = ? WHERE id = ?", (seq, created, ids[name]))
    make_searchable(connection)
    connection.execute("DROP TABLE old")


def _ended(kind: str, data: Mapping[str, Any]) -> str | None:
    """How the turn ended whose last entry this is; None: its process did before."""
    message = data.get("message", {}) if kind == "message" else {}
    if message.get("role") != "assistant" or any(block.get("type") == "tool_call" for block in message["content"]):
        return None
    return "cancelled" if data.get("interrupted") else "finished"


def _corrects(message: Mapping[str, Any]) -> bool:
    """Whether the agent itself says this in the user's place; version 1 knew it by its text."""
    blocks = message.get("content")
    if message.get("role") != "user" or not isinstance(blocks, list) or len(blocks) != 1:
        return False
    said = str(blocks[0].get("text", ""))
    return said.startswith("error: ") and said.endswith("; answer again")


def _whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which SQLite cannot store
        return False
    return True


def _version(database: Database) -> int:
    return int(_value(database, "PRAGMA user_version"))


def _value(database: Database, sql: str) -> Any:
    return database.connection.execute(sql).fetchone()[0]


def _not_ours(database: Database) -> StoreError:
    return StoreError(f"{database.path} is a database of another program; choose another path for the sessions")
