"""``mmagent store`` and ``mmagent eval``: looking after a store of documents, and measuring it. It knows no agent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.cli.outcome import FAILED
from mmagent.cli.printable import complain, printable, tell
from mmagent.cli.stores import Embedders, Mode, counted, existing, tell_skipped
from mmagent.errors import InputError, NotFound

if TYPE_CHECKING:
    from mmagent.evaluate.retrieval import Question
    from mmagent.knowledge import Asset, Knowledge

_TOLD = 5
"""Documents that questions are about and the store has not, told one by one."""


def verify(folder: Path, *, as_json: bool) -> int:
    """Read everything a store holds and print what is wrong with it; the exit code is 1 if anything is.

    Raises:
        NotFound: There is no such store.
        StoreError: It cannot be opened.
    """
    with existing(folder) as knowledge:
        problems = knowledge.verify()
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems}, ensure_ascii=False))
    for problem in () if as_json else problems:
        complain(problem)
    if not as_json and not problems:
        print("nothing is wrong")
    return FAILED if problems else 0


def rebuild(folder: Path) -> None:
    """Build a store's indexes anew from what it holds; nothing is read or embedded again.

    Raises:
        NotFound: There is no such store.
        StoreError: It cannot be written.
    """
    with existing(folder) as knowledge:
        knowledge.rebuild()
        print(f"the indexes of {counted(knowledge.stats().units, 'passage')} are built anew")


def stats(folder: Path, *, as_json: bool) -> None:
    """Print what a store holds.

    Raises:
        NotFound: There is no such store.
    """
    with existing(folder) as knowledge:
        found = knowledge.stats()
    if as_json:
        print(json.dumps({"store": str(knowledge.path), **_plain(asdict(found))}, ensure_ascii=False))
        return
    print(f"store      {printable(str(knowledge.path))}, {found.bytes / 1e6:.1f} MB")
    units = counted(found.units, "passage or picture", "passages and pictures")
    refused = f"; {counted(found.refused, 'file')} cannot be read" if found.refused else ""
    print(f"documents  {found.documents:,}, {units}{refused}")
    print(f"tenants    {found.tenants}")
    pending = f", {counted(found.pending, 'change')} to learn" if found.pending else ""
    print(f"index      {found.search}{pending}")
    for space in found.spaces:
        name = printable(space.fingerprint)
        vectors = f"{counted(space.vectors, 'vector')} of {counted(space.dimension, 'number')}"
        print(f"space      {space.role}: {vectors}, {name}")


def list_documents(folder: Path, *, tenant: str, as_json: bool) -> None:
    """Print the documents of a store, one a line.

    Raises:
        NotFound: There is no such store.
    """
    with existing(folder) as knowledge:
        assets = knowledge.assets(tenant=tenant)
    if as_json:
        print(json.dumps([_plain(asdict(asset)) for asset in assets], ensure_ascii=False))
        return
    for asset in assets:
        print("\t".join(printable(cell.replace("\t", " ").replace("\n", " ")) for cell in _row(asset)))


def remove(folder: Path, names: Sequence[str], *, tenant: str) -> None:
    """Take documents out of a store; the files stay where they are.

    Raises:
        NotFound: There is no such store, or nothing of that name in it.
    """
    with existing(folder) as knowledge:
        count = knowledge.remove(*names, tenant=tenant)
    if not count:
        raise NotFound(f"{folder} has no document {' '.join(names)}; mmagent store list {folder} names those it has")
    print(f"{counted(count, 'document is', 'documents are')} removed")


def evaluate_retrieval(
    folder: Path, questions: Path, embedders: Embedders, *, ks: str, mode: Mode, as_json: bool
) -> None:
    """Print how well a store finds what questions are about.

    Raises:
        InputError: The questions cannot be read, or ``ks`` are no numbers.
        NotFound: There is no such folder.
    """
    from mmagent.evaluate.retrieval import evaluate, read_questions
    from mmagent.knowledge import Knowledge

    depths, asked = read_ks(ks), read_questions(questions)
    with Knowledge.of_folder(folder, **embedders.chosen()) as knowledge:
        tell_skipped(knowledge)
        _tell_unknown(knowledge, asked)
        report = evaluate(knowledge, asked, ks=depths, mode=mode)
    print(report.json() if as_json else printable(report.markdown()))


def _tell_unknown(knowledge: Knowledge, asked: Sequence[Question]) -> None:
    """Say on stderr which documents the questions are about and the store has not: they can never be found."""
    there = {asset.uri for asset in knowledge.assets()}
    unknown = sorted({uri for question in asked for uri in question.relevant} - there)
    for uri in unknown[:_TOLD]:
        tell(f"{uri} is relevant to a question, but not in the store; mmagent store list names what is")
    if more := len(unknown[_TOLD:]):
        rest = counted(more, "more document of the questions is", "more documents of the questions are")
        tell(f"{rest} not in the store")


def read_ks(text: str) -> tuple[int, ...]:
    """Depths such as ``5,10``.

    Raises:
        InputError: They are no numbers from 1.
    """
    try:
        depths = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        depths = (0,)
    if depths[0] < 1:
        raise InputError(f"-k {text} is no list of numbers from 1; give one, e.g. -k 5,10")
    return depths


def _row(asset: Asset) -> list[str]:
    return [asset.uri, asset.mime_type, str(asset.bytes), asset.title]


def _plain(value: Any) -> Any:
    """For JSON, which knows no paths and times."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
