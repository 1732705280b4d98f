"""A session as a file: Markdown and HTML to read, JSON lines to take elsewhere. It knows no model and no agent.

JSON lines are without loss: a header, one line for each entry, and one for each of its media where a blob store is
given. The sessions of agents that were asked on the way are not in it; their answers are. What is imported may come
from anybody: it is checked line by line, and becomes a session as a whole or not at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mmagent.content import Message, is_correction
from mmagent.errors import InputError, MMAgentError, NotFound, StoreError
from mmagent.media import BlobStore
from mmagent.session import contents
from mmagent.session.journal import Draft, Entry, Journal
from mmagent.session.replay import CITED, COPIED, ENDED, MESSAGE, REWOUND, replay
from mmagent.session.session import Session
from mmagent.settings import settings

FORMAT_VERSION = 1
_LONGEST_ENTRY = 8_000_000
_MOST_ENTRIES = 1_000_000
_DEEPEST = 64
_SHOWN_PICTURES = {"image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"}
_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
section { margin: 1.5rem 0; } h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; opacity: .6;
  margin: 0 0 .3rem; }
.user { background: var(--soft); border-radius: .6rem; padding: .8rem 1rem; }
.text, pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; } pre { font-size: .85rem; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .8rem; margin: .5rem 0; }
summary { cursor: pointer; } img { max-width: 100%; border-radius: .4rem; } .note { opacity: .6; font-size: .9rem; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def export_markdown(session: Session) -> str:
    """The conversation as Markdown, tool calls and their results in code blocks.

    Raises:
        StoreError: The session cannot be read.
    """
    parts = [f"# {session.name}"]
    for message, sources in _conversation(session):
        if message.role == "tool":
            parts.append(f"`{message.name or 'tool'}` returned:\n\n{_fenced(message.text)}")
        else:
            parts.append(f"## {_speaker(message)}")
        for block in message.content:
            if block["type"] == "text" and message.role != "tool":
                parts.append(block["text"])
            elif block["type"] == "tool_call":
                parts.append(f"`{block['name']}` is called:\n\n{_fenced(_json(block['args']), 'json')}")
            elif block["type"] in ("image", "audio", "video", "file"):
                parts.append(f"![{_media_name(block)}]({block['file_id']})")
        parts += [_cited(one) for one in sources]
    return "\n\n".join(parts) + "\n"


def _cited(citation: Mapping[str, Any]) -> str:
    """A citation in one line, under the mark that the answer has."""
    page, t0 = citation.get("page"), citation.get("t0")
    place = f", p. {page}" if page else f", {t0:.0f} s" if isinstance(t0, int | float) else ""
    mark = citation.get("marked") or citation.get("number")
    return f"[{mark}]: {citation.get('title')} ({citation.get('uri')}{place})"


def export_html(session: Session, blobs: BlobStore) -> str:
    """The conversation as one HTML page that needs nothing else: pictures are inside, and there is no script in it.

    Raises:
        StoreError: The session cannot be read.
    """
    body = []
    for message, sources in _conversation(session):
        parts = [_html_block(block, message, blobs) for block in message.content]
        parts += [f'<p class="note">{_esc(_cited(one))}</p>' for one in sources]
        if message.role == "tool":
            inner = f"<summary>{_esc(message.name or 'tool')} returned</summary>{''.join(parts)}"
            body.append(f"<details>{inner}</details>")
        else:
            body.append(f'<section class="{message.role}"><h2>{_speaker(message)}</h2>{"".join(parts)}</section>')
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_esc(session.name)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{_esc(session.name)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def export_jsonl(session: Session, blobs: BlobStore | None = None) -> Iterator[str]:
    """The session as lines of JSON, without loss.

    Args:
        session: The session.
        blobs: Where its media are; None leaves them out. One that is lost there is left out too.

    Raises:
        StoreError: The session or a file cannot be read.
    """
    entries = _entries(session)
    yield json.dumps({"mmagent": "session", "version": FORMAT_VERSION, "name": session.name, "entries": len(entries)})
    for entry in entries:
        yield json.dumps({"seq": entry.seq, "kind": entry.kind, "data": entry.data, "created": entry.created})
    for file_id in sorted(contents.media([entry.data for entry in entries]) if blobs else ()):
        if blobs and file_id in blobs:
            yield json.dumps({"media": file_id, "data": base64.b64encode(blobs.get(file_id)).decode()})


def import_jsonl(lines: Iterable[str], journal: Journal, blobs: BlobStore, name: str | None = None) -> str:
    """Make a session of what `export_jsonl` wrote, and return its id.

    Nothing in it was allowed by anybody here: approvals are bound to the session in which they were given.

    Args:
        lines: From anybody.
        journal: Where the session goes.
        blobs: Where its media go.
        name: Its name; None: the one that it had.

    Raises:
        InputError: The lines are no exported session, or the name cannot be used or is taken; there is no new session.
        StoreError: It cannot be written; there is no new session.
    """
    header, drafts, media = _parsed(lines)
    name = header if name is None else name
    Session(name, journal)  # raises where it cannot be called so
    if journal.find(name) is not None:
        raise InputError(f"there is a session called {name!r} already; take another name")
    for data in media:
        blobs.put(data, "application/octet-stream")
    session = journal.create(name)
    try:
        journal.append(session, [*drafts, Draft(COPIED, {"imported": True})])
    except BaseException:
        journal.delete(session)
        raise
    return session


def longest_line() -> int:
    """How many characters a line may have that is imported."""
    return max(_LONGEST_ENTRY, _largest_file() * 4 // 3 + 1000)


def _largest_file() -> int:
    limits = settings()
    return max(limits.max_image_bytes, limits.max_audio_bytes, limits.max_video_bytes, limits.max_document_bytes)


def _parsed(lines: Iterable[str]) -> tuple[str, list[Draft], list[bytes]]:
    name, expected = "", None
    drafts: list[Draft] = []
    media: list[bytes] = []
    number = 0
    try:
        for line in lines:
            number += 1
            if len(line) > longest_line():
                raise ValueError("it is too long")
            if not line.strip():
                continue
            data = json.loads(line)
            if not isinstance(data, dict) or not _shallow(data, _DEEPEST):
                raise ValueError("it is no object, or a too deep one")
            if expected is None:
                name, expected = _header(data)
            elif "media" in data:
                media.append(_file(data, _largest_file()))
            else:
                drafts.append(_entry(data, len(drafts) + 1))
        if expected != len(drafts):
            raise ValueError(f"there are {len(drafts)} entries and should be {expected}")
        number = 0
        entries = [Entry(seq, one.kind, one.data) for seq, one in enumerate(drafts, start=1)]
        replay(entries)
        replay(entries, whole=True)
    except (StoreError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UnicodeError) as error:
        where = f"line {number}" if number else "what the lines say together"
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where} is no exported session ({reason}); export it again") from error
    return name, drafts, media


def _header(data: dict[str, Any]) -> tuple[str, int]:
    if data.get("mmagent") != "session" or not isinstance(data.get("name"), str):
        raise ValueError("the first line of an exported session says so")
    if data.get("version") != FORMAT_VERSION:
        raise ValueError(f"its format is {data.get('version')!r:.20}, this mmagent knows {FORMAT_VERSION}; upgrade it")
    if type(data.get("entries")) is not int or not 0 <= data["entries"] <= _MOST_ENTRIES:
        raise ValueError("it has too many entries")
    return data["name"], data["entries"]


def _entry(data: dict[str, Any], seq: int) -> Draft:
    if seq > _MOST_ENTRIES or data.get("seq") != seq:
        raise ValueError(f"the next entry is {seq}")
    kind, inner = data.get("kind"), data.get("data")
    if not (isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,64}", kind) and isinstance(inner, dict)):
        raise ValueError("it is no entry")
    if kind == MESSAGE:
        Message.model_validate(inner["message"])
    elif kind == CITED and not (
        isinstance(inner["hits"], list) and all(isinstance(hit, dict) for hit in inner["hits"])
    ):
        raise ValueError("it cites nothing")
    elif kind == REWOUND and not (type(inner["to"]) is int and 0 <= inner["to"] < seq):
        raise ValueError("it goes back to nowhere")
    return Draft(kind, inner)


def _file(data: dict[str, Any], largest: int) -> bytes:
    content = base64.b64decode(data["data"], validate=True)
    if len(content) > largest:
        raise ValueError(f"a file of {len(content)} bytes is too large; the settings allow {largest}")
    if "sha256:" + hashlib.sha256(content).hexdigest() != data["media"]:
        raise ValueError("a file is not what its id says")
    return content


def _shallow(data: Any, depth: int) -> bool:
    if isinstance(data, dict):
        data = list(data.values())
    return not isinstance(data, list) or (depth > 0 and all(_shallow(one, depth - 1) for one in data))


def _entries(session: Session) -> Sequence[Entry]:
    session.refresh()
    if session.id is None:
        raise NotFound(f"there is no session called {session.name!r}; see: mmagent sessions")
    return session.journal.read(session.id)


def _conversation(session: Session) -> Iterator[tuple[Message, list[dict[str, Any]]]]:
    """The messages, and the citations of each."""
    cited: dict[int, list[dict[str, Any]]] = {}
    said: list[int] = []  # the entries of what was said, without what was taken back and what tools returned
    for entry in _entries(session):
        if entry.kind == REWOUND:
            said = [seq for seq in said if seq <= entry.data["to"]]
        elif entry.kind == MESSAGE and entry.data["message"].get("role") != "tool":
            said.append(entry.seq)
        elif entry.kind == ENDED and said:
            cited[said[-1]] = [one for one in entry.data.get("citations") or () if isinstance(one, dict)]
    place = iter(said)
    for message in session.messages:
        yield message, [] if message.role == "tool" else cited.get(next(place, 0), [])


def _speaker(message: Message) -> str:
    return "Correction" if is_correction(message) else _SPEAKERS[message.role]


def _html_block(block: Any, message: Message, blobs: BlobStore) -> str:
    match block["type"]:
        case "text":
            tag = "pre" if message.role == "tool" else "div"
            return f'<{tag} class="text">{_esc(block["text"])}</{tag}>'
        case "reasoning":
            return f'<details><summary>Reasoning</summary><div class="text">{_esc(block["reasoning"])}</div></details>'
        case "tool_call":
            summary = f"<summary>{_esc(block['name'])} is called</summary>"
            return f"<details>{summary}<pre>{_esc(_json(block['args']))}</pre></details>"
        case _:
            return _html_media(block, blobs)


def _html_media(block: Any, blobs: BlobStore) -> str:
    name, mime_type = _esc(_media_name(block)), block.get("mime_type", "")
    if block["type"] != "image" or mime_type not in _SHOWN_PICTURES:
        return f'<p class="note">{name} ({_esc(block["type"])})</p>'
    try:
        data = base64.b64encode(blobs.get(block["file_id"])).decode()
    except MMAgentError:
        return f'<p class="note">{name} (the picture is lost)</p>'
    return f'<p><img alt="{name}" src="data:{mime_type};base64,{data}"></p>'


def _media_name(block: Any) -> str:
    extras = block.get("extras") or {}
    return str(extras.get("name") or block["type"])


def _fenced(text: str, language: str = "") -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    return f"{'`' * (longest + 1)}{language}\n{text}\n{'`' * (longest + 1)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _esc(value: Any) -> str:
    """Text for HTML; characters that no file can hold become question marks."""
    return html.escape(str(value), quote=True).encode(errors="replace").decode()
