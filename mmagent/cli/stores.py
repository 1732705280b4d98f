"""``mmagent sessions``, ``index`` and ``search``: what is kept on this machine. It knows no model and no agent."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent.cli.printable import printable

if TYPE_CHECKING:
    from mmagent.knowledge import Knowledge


def index(path: Path) -> None:
    """Bring the index of a folder of documents up to date and say what is in it.

    Raises:
        InputError: There is no such folder, or no document in it.
        StoreError: The store cannot be opened.
    """
    from mmagent.knowledge import Knowledge

    with Knowledge.of_folder(path) as knowledge:
        stats = knowledge.stats()
        print(f"{stats.documents} documents, {stats.units} passages")
        tell_skipped(knowledge)
    print(f'search them with: mmagent search "..." --knowledge {printable(str(path))}')


def tell_skipped(knowledge: Knowledge) -> None:
    """Say on stderr which files of a folder are not searched, and why."""
    for uri, reason in knowledge.report.skipped if knowledge.report else ():
        print(f"note: {printable(uri)} is left out: {printable(reason)}", file=sys.stderr)


def search(query: str, folder: Path, *, limit: int, as_json: bool) -> None:
    """Print the passages of a folder that fit a query best.

    Raises:
        InputError: There is no such folder, or no document in it.
        StoreError: The store cannot be opened.
    """
    from mmagent.knowledge import Knowledge

    with Knowledge.of_folder(folder) as knowledge:
        hits = knowledge.search(query, k=limit)
    if as_json:
        print(json.dumps([dataclasses.asdict(hit) for hit in hits], ensure_ascii=False))
        return
    for number, hit in enumerate(hits, start=1):
        print(f"[{number}] {printable(hit.title)} ({printable(hit.uri)})")
        print(f"    {printable(' '.join(hit.text.split()))}")
    if not hits:
        print("no passage found")


def list_sessions(*, as_json: bool) -> None:
    """Print the sessions, the one used last first.

    Raises:
        StoreError: The journal cannot be read.
    """
    from mmagent.session import Session

    rows = []
    for name in Session.names():
        session = Session.open(name)
        questions = [message.text for message in session.messages if message.role == "user"]
        rows.append({"name": name, "turns": len(questions), "last": questions[-1] if questions else ""})
        session.close()
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        last = printable(" ".join(str(row["last"]).split()))
        print(f"{row['name']:24} {row['turns']:4} turns  {last if len(last) <= 60 else last[:59] + '…'}")
    if not rows:
        print("no sessions yet; begin one with: mmagent chat --session NAME")
