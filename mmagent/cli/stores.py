"""``mmagent index`` and ``search``: documents to answer from. It knows no model and no agent."""

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
