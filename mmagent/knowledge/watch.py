"""Keeps a store in step with paths while they change. It knows `Knowledge.add` and `remove`, and no formats.

A change under a folder has the whole folder brought up to date, which costs little: what did not change is not read.
Whether a watched folder is still the same one, and whether a watched file changed, is looked at once a second, because
the system tells nothing any more of a folder that was deleted and made again, or of a file that was replaced.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias

from mmagent.errors import NotFound, StoreError, StoreLocked
from mmagent.knowledge.find import CHANGING

if TYPE_CHECKING:
    from mmagent.knowledge.report import IndexReport, Progress
    from mmagent.knowledge.store import Knowledge

log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0
"""Seconds between looks at the watched paths themselves, and between tries at a store that is in use."""
_GATHER = 1.6
"""Seconds for which changes that follow each other closely are gathered, at most."""

_Look: TypeAlias = tuple[int, ...] | None
"""What tells whether a path is still the same; None where there is nothing."""


def watch(
    knowledge: Knowledge,
    paths: Iterable[Path | str],
    on_report: Callable[[IndexReport], None],
    stop: Event | None = None,
    *,
    tenant: str = "",
    metadata: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_wait: Callable[[StoreLocked], None] | None = None,
) -> None:
    """Takes paths in, and then again whenever something changes there, until it is told to stop.

    What is deleted goes, a watched folder included; a folder that comes back is taken in again. Hidden files and the
    store's own folder are not watched.

    Args:
        knowledge: The store.
        paths: Files and folders.
        on_report: Called after the first time, and then whenever documents were added, updated or removed, or could
            not be taken in; what is left out is told once.
        stop: Set it, from another thread, to end.
        tenant: As `Knowledge.add` takes it; `metadata` and `progress` too.
        on_wait: Called when the store is in use by somebody else; it is tried again every second.

    Raises:
        NotFound: A path does not exist at the beginning.
        StoreError: The store cannot be written, or the system refuses to watch so many folders.
        KeyboardInterrupt: Ctrl-C, in the main thread. What was reported stays.
    """
    watched = {Path(os.path.expanduser(path)).absolute() for path in paths}  # Path's own raises for an unknown ~user
    for path in sorted(watched):
        if _look(path) is None:
            raise NotFound(f"there is no file or folder {path} to watch; check the path")
    add = _Add(knowledge, tenant, metadata, progress)
    _Watch(add, watched, on_report, stop or Event(), on_wait).run()


class _Add:
    """`Knowledge.add` and `remove` as they were asked for."""

    def __init__(
        self,
        knowledge: Knowledge,
        tenant: str,
        metadata: Mapping[str, Any] | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.store = knowledge.path.resolve()
        self._knowledge, self._tenant, self._metadata, self._progress = knowledge, tenant, metadata, progress

    def __call__(self, there: list[Path], gone: list[Path]) -> IndexReport:
        removed = self._knowledge.remove(*gone, tenant=self._tenant) if gone else 0
        report = self._knowledge.add(*there, tenant=self._tenant, metadata=self._metadata, progress=self._progress)
        return replace(report, removed=report.removed + removed)


class _Watch:
    """One `watch`: which paths are behind, and what was told already."""

    def __init__(
        self,
        add: _Add,
        paths: set[Path],
        on_report: Callable[[IndexReport], None],
        stop: Event,
        on_wait: Callable[[StoreLocked], None] | None,
    ) -> None:
        self._add, self._on_report, self._stop, self._on_wait = add, on_report, stop, on_wait
        self._places = {path: path.resolve() for path in paths}
        """Each path, and where its links led when it was taken in last."""
        self._behind = set(paths)
        self._reported = False
        self._left_out: set[tuple[str, str]] = set()

    def run(self) -> None:
        looked = self._looks()
        while not self._stop.is_set():
            for changed in self._changes():
                looks = self._looks()  # before they are read: what changes meanwhile differs at the next look
                moved = {path for path in looks if looks[path] != looked[path]}
                looked = looks
                self._behind |= moved | {path for path in looks if self._touched(path, changed)}
                self._catch_up()
                if moved:
                    break  # the system watches what stood there before

    def _looks(self) -> dict[Path, _Look]:
        return {path: _look(path) for path in self._places}

    def _touched(self, path: Path, changed: set[Path]) -> bool:
        return any(file.is_relative_to(self._places[path]) for file in changed)

    def _changes(self) -> Iterator[set[Path]]:
        """Files that changed under the folders, as soon as they do; none of them after each second of quiet.

        The first time after the system has begun to watch it is the folders themselves: they may have changed while
        they were taken in, before it did.
        """
        from watchfiles import watch as system_watch

        folders = {path.resolve() for path in self._places if path.is_dir()}
        unseen = folders
        yield set()
        try:
            if folders:
                for changes in system_watch(
                    *folders,
                    watch_filter=lambda _, file: self._counts(Path(file)),
                    debounce=int(_GATHER * 1000),
                    rust_timeout=int(_LOOK_EVERY * 1000),
                    yield_on_timeout=True,
                    stop_event=self._stop,
                    ignore_permission_denied=True,
                ):
                    yield {Path(file) for _, file in changes} | unseen
                    unseen = set()
            while not self._stop.wait(_LOOK_EVERY):
                yield set()
        except FileNotFoundError:
            return  # it went between the look and the watch
        except OSError as error:
            raise StoreError(
                f"the folders cannot be watched ({error}); raise the system's limit (fs.inotify.max_user_watches), or "
                "set WATCHFILES_FORCE_POLLING=1"
            ) from error

    def _counts(self, file: Path) -> bool:
        """Whether a change to a file can matter: those of a store that lies in its own folder would never end."""
        if file.is_relative_to(self._add.store):
            return False
        for place in self._places.values():
            if file.is_relative_to(place):
                return not any(part.startswith(".") for part in file.relative_to(place).parts)
        return False

    def _catch_up(self) -> None:
        if not self._behind:
            return
        there = [path for path in sorted(self._behind) if _look(path) is not None]
        places = {path: path.resolve() for path in there}
        gone = [self._places[path] for path in sorted(self._behind) if places.get(path) != self._places[path]]
        try:
            report = self._add(there, gone)
        except StoreLocked as error:
            if self._on_wait:
                self._on_wait(error)
            return
        except NotFound as error:
            log.debug("a path went while it was read, and is looked at again: %s", error)
            return
        changing = any(reason == CHANGING for _, reason in report.skipped)
        self._behind = set(there) if changing else set()
        self._places |= places
        self._tell(report)

    def _tell(self, report: IndexReport) -> None:
        report = replace(report, skipped=[one for one in report.skipped if one not in self._left_out])
        self._left_out |= set(report.skipped)
        if not self._reported or report.added or report.updated or report.removed or report.skipped:
            self._reported = True
            self._on_report(report)


def _look(path: Path) -> _Look:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    if S_ISDIR(found.st_mode):
        return (found.st_dev, found.st_ino)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
