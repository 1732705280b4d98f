"""What an exported session says, and what becomes of a hostile one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmagent.content import Message, correction, text
from mmagent.errors import InputError, NotFound
from mmagent.media import BlobStore
from mmagent.session import Draft, MemoryJournal, Session
from mmagent.session.export import export_html, export_jsonl, export_markdown, import_jsonl

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EVIL = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def session(blobs: BlobStore) -> Session:
    session = Session("shop", MemoryJournal())
    picture = {
        "type": "image",
        "file_id": blobs.put(PIXEL, "image/png"),
        "mime_type": "image/png",
        "extras": {"name": "cat.png"},
    }
    call = {"type": "tool_call", "id": "1", "name": "find_order", "args": {"order": "ORD-1"}}
    session.append(Message(role="user", content=(text("Where is ORD-1? 在哪"), picture)))
    session.append(Message(role="assistant", content=({"type": "reasoning", "reasoning": "let me see"}, call)))
    session.append(Message(role="tool", content=(text("sent ```today```"),), tool_call_id="1", name="find_order"))
    session.append(Message(role="assistant", content=(text("It was sent [1]."),)))
    citation = {"number": 1, "title": "Orders > Sent", "uri": "/orders.md", "quote": "sent"}
    session.write(Draft("ended", {"how": "finished", "usage": {}, "citations": [citation]}))
    session.append(correction("no JSON"))
    session.append(Message(role="user", content=(text("taken back"),)))
    session.rewind()
    return session


def test_markdown_has_who_said_what(session: Session) -> None:
    page = export_markdown(session)
    assert page.startswith("# shop\n\n## User\n\nWhere is ORD-1? 在哪\n\n![cat.png](sha256:")
    assert '`find_order` is called:\n\n```json\n{\n  "order": "ORD-1"\n}\n```' in page
    assert "`find_order` returned:\n\n````\nsent ```today```\n````" in page
    assert "It was sent [1].\n\n[1]: Orders > Sent (/orders.md)\n" in page
    assert "## Correction" in page
    assert "taken back" not in page


def test_html_is_one_page_with_its_pictures_in_it(session: Session, blobs: BlobStore) -> None:
    page = export_html(session, blobs)
    assert f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}" in page
    assert "<summary>find_order is called</summary>" in page
    assert "Orders &gt; Sent (/orders.md)" in page
    assert "color-scheme: light dark" in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|<script|<link", page)


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes


def test_nothing_that_was_said_becomes_markup(blobs: BlobStore) -> None:
    session = Session("evil", MemoryJournal())
    picture = {
        "type": "image",
        "file_id": blobs.put(b"<svg onload=alert(3)>", "image/svg+xml"),
        "mime_type": 'image/png" onload="x',
        "extras": {"name": EVIL},
    }
    svg = {**picture, "mime_type": "image/svg+xml"}
    lost = {**picture, "mime_type": "image/png", "file_id": "sha256:" + "0" * 64}
    call = {"type": "tool_call", "id": EVIL, "name": EVIL, "args": {EVIL: [EVIL]}}
    reasoning = {"type": "reasoning", "reasoning": EVIL}
    session.append(Message(role="user", content=(text(EVIL + "\ud800"), picture, svg, lost)))
    session.append(Message(role="assistant", content=(reasoning, text(EVIL), call)))
    session.append(Message(role="tool", content=(text(EVIL),), tool_call_id=EVIL, name=EVIL))
    session.append(Message(role="assistant", content=(text(EVIL),)))
    session.write(
        Draft("ended", {"how": "finished", "citations": [{"number": EVIL, "title": EVIL, "uri": EVIL}, EVIL]})
    )
    found = Tags(export_html(session, blobs))
    assert not {"script", "svg", "img"} & set(found.tags)
    assert {name for name, _ in found.attributes} <= {"charset", "http-equiv", "content", "name", "class"}
    assert export_markdown(session)


def test_json_lines_lose_nothing(session: Session, blobs: BlobStore, tmp_path: Path) -> None:
    lines = list(export_jsonl(session, blobs))
    assert json.loads(lines[0]) == {"mmagent": "session", "version": 1, "name": "shop", "entries": 8}
    assert all(line.isascii() and "\n" not in line for line in lines)
    there, elsewhere = MemoryJournal(), BlobStore(tmp_path / "elsewhere")
    id = import_jsonl(lines, there, elsewhere)
    copy = Session("shop", there)
    assert copy.id == id
    assert copy.messages == session.messages
    *entries, copied = there.read(id)
    assert [(one.kind, one.data) for one in entries] == [
        (one.kind, one.data) for one in session.journal.read(session.id or "")
    ]
    assert (copied.kind, copied.data) == ("copied", {"imported": True})
    assert elsewhere.get(copy.messages[0].media[0]["file_id"]) == PIXEL
    assert export_html(copy, elsewhere) == export_html(session, blobs)


def test_media_are_left_out_where_no_store_is_given_and_where_they_are_lost(session: Session, tmp_path: Path) -> None:
    assert len(list(export_jsonl(session))) == 9
    assert len(list(export_jsonl(session, BlobStore(tmp_path / "empty")))) == 9


def test_there_must_be_a_session(blobs: BlobStore) -> None:
    for work in (export_markdown, lambda one: export_html(one, blobs), lambda one: list(export_jsonl(one))):
        with pytest.raises(NotFound, match="there is no session called 'nobody'"):
            work(Session("nobody", MemoryJournal()))


HEADER = {"mmagent": "session", "version": 1, "name": "a", "entries": 1}
SAID = {"seq": 1, "kind": "message", "data": {"message": {"role": "user", "content": [{"type": "text", "text": "x"}]}}}
FILE = {"media": "sha256:" + hashlib.sha256(b"x").hexdigest(), "data": base64.b64encode(b"x").decode()}


def deep(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels):
        data = {"x": data}
    return data


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["{}"],
        ["[]", SAID],
        ["not json"],
        ['{"a": 1'],
        ["\x00"],
        [SAID],
        [{**HEADER, "version": 2}, SAID],
        [{**HEADER, "version": "x" * 1000}, SAID],
        [{**HEADER, "entries": 2}, SAID],
        [{**HEADER, "entries": 0}, SAID],
        [{**HEADER, "entries": 10**9}, SAID],
        [{**HEADER, "entries": True}, SAID],
        [{**HEADER, "name": "../../etc/passwd"}, SAID],
        [{**HEADER, "name": "\x1b[31m"}, SAID],
        [{**HEADER, "name": 3}, SAID],
        [HEADER, {**SAID, "seq": 2}],
        [HEADER, {**SAID, "kind": "x" * 100}],
        [HEADER, {**SAID, "kind": "DROP TABLE"}],
        [HEADER, {**SAID, "data": []}],
        [HEADER, {**SAID, "data": {}}],
        [HEADER, {**SAID, "data": {"message": {"role": "emperor", "content": []}}}],
        [HEADER, {**SAID, "kind": "rewound", "data": {"to": "x"}}],
        [HEADER, {**SAID, "kind": "rewound", "data": {"to": -1}}],
        [HEADER, {**SAID, "kind": "plan", "data": {"steps": 3}}],
        [HEADER, {**SAID, "kind": "asked", "data": {"id": []}}],
        [HEADER, {**SAID, "kind": "cited", "data": {"hits": "x"}}],
        [HEADER, {**SAID, "kind": "compaction", "data": {"through": 1, "messages": [{}], "turns": 1}}],
        [HEADER, {**SAID, "kind": "note", "data": deep(100)}],
        [HEADER, '{"seq": 1, "kind": "note", "data": ' + '{"x":' * 100_000 + "1" + "}" * 100_000 + "}"],
        [HEADER, '{"seq": 1, "kind": "note", "data": {"x": ' + "9" * 10_000 + "}}"],
        [HEADER, SAID, {**FILE, "media": "sha256:" + "0" * 64}],
        [HEADER, SAID, {**FILE, "media": "../../x"}],
        [HEADER, SAID, {**FILE, "data": "!!!"}],
        [HEADER, SAID, {**FILE, "data": 3}],
        [HEADER, SAID, {**FILE, "data": "ä"}],
        [HEADER, SAID, FILE, SAID],
        [HEADER, "x" * 100_000_000],
    ],
    ids=str,
)
def test_what_is_no_session_is_refused_in_one_line_and_leaves_nothing(lines: list[Any], blobs: BlobStore) -> None:
    journal = MemoryJournal()
    with pytest.raises(InputError) as raised:
        import_jsonl([line if isinstance(line, str) else json.dumps(line) for line in lines], journal, blobs)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert list(journal.sessions()) == []


def test_files_too_large_are_refused(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.session.export._largest_file", lambda: 0)
    with pytest.raises(InputError, match="too large"):
        import_jsonl(map(json.dumps, [HEADER, SAID, FILE]), MemoryJournal(), blobs)


def test_a_name_that_is_taken_is_refused_and_another_can_be_given(blobs: BlobStore) -> None:
    journal = MemoryJournal()
    lines = [json.dumps(HEADER), json.dumps(SAID), "", json.dumps(FILE)]
    import_jsonl(lines, journal, blobs)
    with pytest.raises(InputError, match="called 'a' already"):
        import_jsonl(lines, journal, blobs)
    import_jsonl(lines, journal, blobs, "b")
    assert {info.name: info.entries for info in journal.sessions()} == {"a": 2, "b": 2}
    assert FILE["media"] in blobs


def test_a_journal_that_fails_has_no_half_session(blobs: BlobStore) -> None:
    class Full(MemoryJournal):
        def append(self, *_: Any, **__: Any) -> int:
            raise OSError("full")

    journal = Full()
    with pytest.raises(OSError, match="full"):
        import_jsonl(map(json.dumps, [HEADER, SAID]), journal, blobs)
    assert list(journal.sessions()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["message", "intent", "asked", "decided", "plan", "opened", "handoff", "picture", "compaction", "rewound",
         "cited", "ended"]  # fmt: skip
KEYS = ["message", "id", "name", "args", "steps", "groups", "agent", "file_id", "through", "messages", "to", "hits"]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)), max_size=4)
)
def test_whatever_is_imported_can_be_opened(blobs: BlobStore, entries: list[tuple[str, Any]]) -> None:
    lines = [{**HEADER, "entries": len(entries)}]
    lines += [{"seq": seq, "kind": kind, "data": data} for seq, (kind, data) in enumerate(entries, 1)]
    journal = MemoryJournal()
    try:
        import_jsonl(map(json.dumps, lines), journal, blobs)
    except InputError:
        assert list(journal.sessions()) == []
    else:
        session = Session("a", journal)
        session.refresh()
        if entries:
            assert export_markdown(session)
            assert export_html(session, blobs)
