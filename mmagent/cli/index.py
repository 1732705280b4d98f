"""``mmagent index``: documents into stores, once or whenever they change. It knows no agent."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.cli.printable import printable, tell
from mmagent.cli.stores import Embedders, counted, read_pairs, settings_with, tell_left_out
from mmagent.errors import InputError, NotFound

if TYPE_CHECKING:
    from mmagent.knowledge import IndexReport, Knowledge, Progress


@dataclass(frozen=True)
class Index:
    """What is taken in, where to, and how."""

    paths: tuple[Path, ...]
    store: Path | None = None
    """Where to; None: each folder into the store that is kept for it."""
    tenant: str = ""
    metadata: tuple[str, ...] = ()
    embedders: Embedders = field(default_factory=Embedders)
    describe: bool = False
    workers: int | None = None
    ocr: bool | None = None
    """None: as it is set."""


def index(wanted: Index, *, watch: bool, as_json: bool, verbose: bool) -> None:
    """Bring stores up to date and say what is in them; with ``watch`` go on until Ctrl-C.

    Raises:
        InputError: A path does not exist or needs ``--store``, or nothing of what was given can be taken in.
        StoreError: A store cannot be opened or written.
        KeyboardInterrupt: Ctrl-C; what is in the stores by then stays.
    """
    read_pairs(wanted.metadata, "--meta")
    places = _places(wanted)
    if watch and len(places) > 1:
        raise InputError("several folders are watched into one store only; name it with --store")
    with settings_with(index_workers=wanted.workers, ocr=wanted.ocr):
        if watch:
            _watch(wanted, *places[0], as_json=as_json, verbose=verbose)
            return
        done = [_take_in(wanted, store, paths, quiet=as_json, verbose=verbose) for store, paths in places]
    if as_json:
        print(json.dumps({"stores": done}, ensure_ascii=False))
    if not any(store["added"] + store["updated"] + store["unchanged"] for store in done):
        raise InputError(_why_nothing(wanted, [one for store in done for one in store["skipped"]]))
    if not as_json:
        where = wanted.store or (wanted.paths[0] if len(wanted.paths) == 1 else "DIR")
        print(f'search them with: mmagent search "..." --knowledge {printable(str(where))}')


def _places(wanted: Index) -> list[tuple[Path, list[Path]]]:
    """Each store's folder, with the paths that it takes in."""
    from mmagent.knowledge.store import store_of

    for path in wanted.paths:
        if not os.path.exists(os.path.expanduser(path)):  # Path's own raise for some names that cannot be one
            raise NotFound(f"there is no file or folder {path}; check the path")
    if wanted.store:
        return [(wanted.store, list(wanted.paths))]
    for path in wanted.paths:
        if not os.path.isdir(os.path.expanduser(path)):
            raise InputError(f"{path} is a file, which has no store of its own; say where to with --store DIR")
    return [(store_of(path), [path]) for path in wanted.paths]


def _open(wanted: Index, store: Path) -> Knowledge:
    from mmagent.knowledge import Knowledge

    captioner = None
    if wanted.describe:
        from mmagent.chat import factory
        from mmagent.knowledge.describe import captions_by

        captioner = captions_by(factory.load_model(None))
    return Knowledge(store, captioner=captioner, **wanted.embedders.chosen())


def _take_in(wanted: Index, store: Path, paths: list[Path], *, quiet: bool, verbose: bool) -> dict[str, Any]:
    with _open(wanted, store) as knowledge:
        try:
            with closing(_Bar()) as bar:
                report = knowledge.add(*paths, tenant=wanted.tenant, metadata=_metadata(wanted), progress=bar.show)
        except KeyboardInterrupt:
            kept = counted(knowledge.stats().documents, "document is", "documents are")
            tell(f"{kept} in; the same command goes on from there")
            raise
        stats = knowledge.stats()
        if not quiet:
            print(f"{counted(stats.documents, 'document')}, {counted(stats.units, 'passage')}")
            print(f"{_counts(report)}, {report.unchanged:,} unchanged")
            _tell(report, verbose=verbose)
    return {"store": str(knowledge.path), "documents": stats.documents, "units": stats.units, **_fields(report)}


def _watch(wanted: Index, store: Path, paths: list[Path], *, as_json: bool, verbose: bool) -> None:
    from mmagent.knowledge.watch import watch

    bar, waiting = _Bar(), False

    def say(report: IndexReport) -> None:
        nonlocal waiting
        waiting = False
        bar.close()
        if as_json:
            print(json.dumps(_fields(report), ensure_ascii=False), flush=True)
        else:
            documents = counted(knowledge.stats().documents, "document")
            print(f"{time.strftime('%H:%M:%S')} {_counts(report)}, {documents}", flush=True)
            _tell(report, verbose=verbose)

    def wait(error: Exception) -> None:
        nonlocal waiting
        if not waiting:
            tell(f"{error}; it is tried again")
        waiting = True

    tell("watching for changes; Ctrl-C ends it")
    with _open(wanted, store) as knowledge:
        try:
            with closing(bar):
                watch(
                    knowledge,
                    paths,
                    say,
                    tenant=wanted.tenant,
                    metadata=_metadata(wanted),
                    progress=bar.show,
                    on_wait=wait,
                )
        except KeyboardInterrupt:
            tell("no longer watching; what was taken in stays")


def _metadata(wanted: Index) -> dict[str, Any] | None:
    return read_pairs(wanted.metadata, "--meta") or None


def _tell(report: IndexReport, *, verbose: bool) -> None:
    tell_left_out(report.skipped, whole=verbose)
    for uri, note in report.notes:
        tell(f"{uri}: {note}")


def _counts(report: IndexReport) -> str:
    return f"{report.added:,} added, {report.updated:,} updated, {report.removed:,} removed"


def _fields(report: IndexReport) -> dict[str, Any]:
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "skipped": [{"uri": uri, "reason": reason} for uri, reason in report.skipped],
        "notes": [{"uri": uri, "note": note} for uri, note in report.notes],
    }


def _why_nothing(wanted: Index, skipped: Sequence[dict[str, str]]) -> str:
    given = wanted.paths[0] if len(wanted.paths) == 1 else "the paths that were given"
    if not skipped:
        return f"there are no documents in {given}"
    first = f"{skipped[0]['uri']}: {skipped[0]['reason']}"
    return f"there are no documents in {given} that can be read; {first}"


class _Bar:
    """A progress bar on stderr, there from the first news until it is closed; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def show(self, now: Progress) -> None:
        """How far an `add` is."""
        if sys.stderr.isatty():
            self._bar = self._bar or self._begun()
            file = printable(" ".join(now.uri.split()))
            self._bar.update(self._task, total=now.total, completed=now.done, description=file)

    def close(self) -> None:
        """Wipes it away. Further news bring another one."""
        if self._bar:
            self._bar.stop()
        self._bar = None

    def _begun(self) -> Any:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        file = progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
        columns = (progress.BarColumn(20), progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), file)
        bar = progress.Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = bar.add_task("")
        bar.start()
        return bar
