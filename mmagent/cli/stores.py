"""Knowledge stores as the commands open and search them. It knows no model and no agent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from mmagent.cli.printable import printable, tell
from mmagent.errors import InputError, MMAgentError, NotFound

if TYPE_CHECKING:
    from mmagent.content import Image
    from mmagent.knowledge import Hit, Knowledge

Mode = Literal["hybrid", "dense", "lexical"]

_TOLD = 20
"""Files that are left out and told one by one; the rest is a number."""


@dataclass(frozen=True)
class Search:
    """What `search` looks for, and how."""

    query: str
    image: Path | None = None
    limit: int = 5
    tenant: str = ""
    where: tuple[str, ...] = ()
    mode: Mode = "hybrid"
    kinds: tuple[str, ...] = ()
    merge: bool = False


@dataclass(frozen=True)
class Embedders:
    """What was chosen instead of the settings' embedders."""

    text: str | None = None
    picture: str | None = None

    def chosen(self) -> dict[str, Any]:
        """Arguments for `Knowledge`."""
        named = {"embedder": self.text, "picture_embedder": self.picture}
        return {name: value for name, value in named.items() if value is not None}


def search(wanted: Search, folder: Path, embedders: Embedders, *, save: Path | None, as_json: bool) -> None:
    """Print the passages and pictures of a folder or store that fit a query best.

    Raises:
        InputError: There is nothing to look for, no such folder or kind, or no document in it.
        StoreError: The store cannot be opened.
    """
    from mmagent.knowledge import Knowledge

    query, where = _query(wanted), read_where(wanted.where)
    _check_kinds(wanted.kinds)
    with Knowledge.of_folder(folder, **embedders.chosen()) as knowledge:
        tell_skipped(knowledge)
        hits = knowledge.search(
            query,
            k=wanted.limit,
            tenant=wanted.tenant,
            where=where,
            kinds=wanted.kinds or None,
            mode=wanted.mode,
            merge=wanted.merge,
        )
        saved = save_pictures(knowledge, hits, save) if save else [None] * len(hits)
    if as_json:
        rows = [
            asdict(hit) | ({"picture": file and str(file)} if save else {})
            for hit, file in zip(hits, saved, strict=True)
        ]
        print(json.dumps(rows, ensure_ascii=False))
    else:
        _print_hits(hits, saved)


def _query(wanted: Search) -> str | list[str | Image]:
    from mmagent.content import Image

    if wanted.image is None:
        if not wanted.query.strip():
            raise InputError("there is nothing to look for; give words, or a picture with --image")
        return wanted.query
    if not os.path.isfile(wanted.image):  # unlike Path.is_file, False for any name that cannot be one
        raise NotFound(f"there is no file {wanted.image}; give a picture to look for")
    return [*([wanted.query] if wanted.query.strip() else []), Image(wanted.image)]


def _check_kinds(kinds: Sequence[str]) -> None:
    """As a search does, before a whole folder is read for it."""
    from mmagent.knowledge.filters import KINDS

    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"--kind {unknown[0]} is no kind of what can be found; give one of {', '.join(KINDS)}")


def _print_hits(hits: Sequence[Hit], saved: Sequence[Path | None]) -> None:
    for number, (hit, picture) in enumerate(zip(hits, saved, strict=True), start=1):
        print(f"[{number}] {printable(hit.title)} ({printable(_place(hit))})")
        if text := " ".join(hit.text.split()):
            print(f"    {printable(text)}")
        if picture:
            print(f"    {printable(str(picture))}")
    if not hits:
        print("no passage found")


def _place(hit: Hit) -> str:
    """Where it stands, with the folders that a citation leaves out: several may have a file of that name."""
    from mmagent.knowledge.cite import where

    place, name = where(hit), PurePath(hit.uri).name
    return hit.uri + place[len(name) :] if name and hit.uri.endswith(name) and place.startswith(name) else place


def save_pictures(knowledge: Knowledge, hits: Sequence[Hit], folder: Path) -> list[Path | None]:
    """Write each hit's page, picture or frame, its place marked, as ``1.png``, ...; None where it has none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); give a folder to write pictures to") from error
    saved: list[Path | None] = []
    for number, hit in enumerate(hits, start=1):
        saved.append(None)
        if hit.page is None and hit.kind in ("text", "speech"):
            continue
        try:
            knowledge.picture(hit).save(folder / f"{number}.png")
            saved[-1] = folder / f"{number}.png"
        except (MMAgentError, OSError) as error:  # the file changed or went since it was taken in
            tell(f"[{number}] has no picture: {error}")
    return saved


def read_pairs(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """``KEY=VALUE`` options: a value that is a number, true, false or null in JSON is that, any other is text.

    Raises:
        InputError: One has no ``=``, or no key.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {pair} is no KEY=VALUE; give one, e.g. {option} lang=en")
        found[key.strip()] = _scalar(value)
    return found


def read_where(options: Sequence[str]) -> dict[str, Any] | None:
    """A filter of ``--where`` options, each KEY=VALUE or a JSON object; all of them have to hold.

    Raises:
        InputError: One is neither.
    """
    filters: list[dict[str, Any]] = []
    for option in options:
        if option.lstrip().startswith("{"):
            try:
                filters.append(json.loads(option))
            except (ValueError, RecursionError) as error:
                raise InputError(f"--where {option} is no JSON ({error}); give KEY=VALUE or a JSON object") from error
        else:
            filters.append(read_pairs([option], "--where"))
    if len(filters) > 1:
        return {"$and": filters}
    return filters[0] if filters else None


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict | list) else value


def existing(folder: Path) -> Knowledge:
    """The store that a folder is, or that was made for a folder of documents; it is not brought up to date.

    Raises:
        NotFound: There is none.
    """
    from mmagent.knowledge.folder import MANIFEST
    from mmagent.knowledge.store import Knowledge, store_of

    given = Path(os.path.expanduser(folder)).absolute()  # Path's own expanduser raises for an unknown ~user
    for place in (given, store_of(given)):
        if os.path.isfile(place / MANIFEST):
            return Knowledge(place)
    raise NotFound(f"there is no store of {folder}; make one with: mmagent index {folder}")


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 document``, ``2,000 documents``; ``many`` where the plural is more than an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def tell_skipped(knowledge: Knowledge) -> None:
    """Say on stderr which files of a folder are not searched, and why."""
    tell_left_out(knowledge.report.skipped if knowledge.report else ())


def tell_left_out(
    skipped: Sequence[tuple[str, str]], say: Callable[[str], None] = tell, *, whole: bool = False
) -> None:
    """Say, by default on stderr, which files are left out, and why; the first ones only, unless ``whole``."""
    told = skipped if whole else skipped[:_TOLD]
    for uri, reason in told:
        say(f"{uri} is left out: {reason}")
    if more := len(skipped) - len(told):
        say(f"{counted(more, 'more is', 'more are')} left out; mmagent index --verbose lists them")


@contextmanager
def settings_with(**changes: object) -> Iterator[None]:
    """Other settings for a while, in this process and those that it starts; None leaves one as it is."""
    from mmagent.settings import Settings, settings

    names = {Settings.variable(field): str(value) for field, value in changes.items() if value is not None}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        settings.cache_clear()
