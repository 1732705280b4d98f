"""``mmagent transcribe``: recordings into text and subtitles, one file or whole folders. It knows no agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmagent.cli.outcome import FAILED
from mmagent.cli.printable import printable, tell
from mmagent.errors import InputError, MMAgentError, ModelError, NotFound
from mmagent.speech.write import SUFFIXES, Format, clock, written

if TYPE_CHECKING:
    from mmagent.speech.transcribe import Transcriber

STDIN = Path("-")
UNCLEAR = "somebody speaks in it, but the speech model did not understand it; try another one with --model"
PARTLY_UNCLEAR = "some of it was not understood and is left out; --format json says where"

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write a file for each recording there.")]
Hot = Annotated[
    list[str] | None, typer.Option("--hot-word", metavar="WORD", help="A name or number that may be said. Repeatable.")
]


def transcribe(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER", help="Recordings, videos; - reads stdin.")],
    form: Annotated[Format, typer.Option("--format", help="What is written.")] = "text",
    out: Out = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="E.g. en; what is heard if left out.")
    ] = None,
    translate: Annotated[bool, typer.Option("--translate", help="Write English, whatever is spoken.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Give the times of words too, in JSON.")] = False,
    channels: Annotated[bool, typer.Option("--channels", help="The two channels are two speakers.")] = False,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What it may be about.")] = "",
    hot_word: Hot = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="nano, folder, .pt file or hub id. [MMAGENT_SPEECH_MODEL]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="auto, cuda, mps or cpu. [MMAGENT_DEVICE]")
    ] = None,
) -> None:
    """Write down what is said in recordings and videos."""
    from mmagent.settings import settings
    from mmagent.speech import load_transcriber

    jobs = jobs_of(paths, out, form)
    transcriber = load_transcriber(
        model,
        device or settings().device,
        language=language,
        task="translate" if translate else "transcribe",
        words=words,
        speakers="channels" if channels else None,
        prompt=prompt,
        hot_words=hot_word or (),
    )
    raise typer.Exit(work(jobs, transcriber, form))


@dataclass(frozen=True)
class Job:
    """A recording, and where its words go."""

    source: Path
    target: Path | None
    """A file; None: stdout."""
    error: InputError | None = None
    """Why there is nothing to be done."""


def jobs_of(paths: Sequence[Path], out: Path | None, form: Format) -> list[Job]:
    """What is to be done, in order: files as they are given, and the recordings in folders.

    Raises:
        InputError: Subtitles of several recordings would become one, or there are no recordings.
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        found += [(path, Path(path.name))] if path == STDIN or not path.is_dir() else list(_recordings(path))
    if not found:
        raise InputError(f"there are no recordings in {', '.join(map(str, paths))}; check the path")
    if out is None and len(found) > 1 and form in ("srt", "vtt"):
        raise InputError(f"{len(found)} recordings do not fit into one {form} file; say where to with --out DIR")
    if out is None:
        return [_job(source, None) for source, _ in found]
    named = [out / relative.with_suffix(SUFFIXES[form]) for _, relative in found]
    full = [out / relative.with_name(f"{relative.name}{SUFFIXES[form]}") for _, relative in found]
    targets = [other if named.count(one) > 1 else one for one, other in zip(named, full, strict=True)]
    if len(set(targets)) < len(targets):
        raise InputError(f"several recordings have the same name and would share a file in {out}; do them one by one")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for --out")
    return [_job(source, target) for (source, _), target in zip(found, targets, strict=True)]


def work(jobs: Sequence[Job], transcriber: Transcriber, form: Format) -> int:
    """Do it all; what cannot be done is said at the end.

    Returns:
        The exit code: 1 where something could not be done.

    Raises:
        MMAgentError: There is only one recording, and it cannot be done.
        KeyboardInterrupt: Ctrl-C; what was written by then stays.
    """
    failed: list[tuple[Path, MMAgentError]] = []
    for number, job in enumerate(jobs, start=1):
        if not job.target and len(jobs) > 1 and form == "text":
            print(f"== {printable(str(job.source))}", flush=True)
        try:
            with closing(_Bar(_name(job), number, len(jobs))) as bar:
                _transcribe(job, transcriber, form, bar)
        except (InputError, ModelError) as error:
            if len(jobs) == 1:
                raise
            failed.append((job.source, error))
    if failed:
        tell(f"{len(failed)} of {len(jobs)} recordings could not be transcribed:")
        for source, why in failed:
            tell(f"{source}: {why}")
    return FAILED if failed else 0


def _transcribe(job: Job, transcriber: Transcriber, form: Format, bar: _Bar) -> None:
    if job.error:
        raise job.error
    source: Any = sys.stdin.buffer if job.source == STDIN else job.source
    stream = transcriber.stream(source, name=_name(job), progress=bar.show)
    parts = written(stream, form)
    if job.target:
        _write(job.target, parts, bar)
    else:
        lead = f'{{"file": {json.dumps(str(job.source), ensure_ascii=False)}, ' if form == "json" else ""
        for part in parts:
            print(lead + part[1:] if lead else part if form == "json" else printable(part), end="", flush=True)
            lead = ""
    transcript = stream.transcript()
    if any(one.reason == "low confidence" for one in transcript.dropped):
        tell(f"{_name(job)}: {UNCLEAR if transcript.no_speech else PARTLY_UNCLEAR}")
    elif transcript.no_speech:
        tell(f"{_name(job)}: nobody speaks in it")


def _write(target: Path, parts: Iterator[str], bar: _Bar) -> None:
    """Write a file, which gets its name when it is whole."""
    partial = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for part in parts:
                file.write(part)
                file.flush()
        partial.replace(target)
    except KeyboardInterrupt:
        if partial.exists():
            tell(f"what was heard up to {clock(bar.done)} is in {partial}")
        raise
    except MMAgentError:
        partial.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another folder with --out") from error


def _job(source: Path, target: Path | None) -> Job:
    if source == STDIN or source.exists():
        return Job(source, target)
    return Job(source, target, NotFound(f"there is no file or folder {source}; check the path"))


def _recordings(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The recordings and videos in a folder and those below, with their paths from there; hidden ones are left out."""
    from mmagent.media.sniff import SNIFF_BYTES, sniff
    from mmagent.media.sound import DEMUXERS

    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(where, name)
            try:
                if not path.is_file():  # a pipe would be waited for
                    continue
                with path.open("rb") as file:
                    head = file.read(SNIFF_BYTES)
            except OSError:
                continue
            if sniff(head) in DEMUXERS:
                yield path, path.relative_to(folder)


def _name(job: Job) -> str:
    return "stdin" if job.source == STDIN else job.source.name


class _Bar:
    """How far a recording is, on stderr; nothing where that is no terminal."""

    def __init__(self, name: str, number: int, count: int) -> None:
        self.done = 0.0
        """Seconds of the recording."""
        self._title = printable(name) if count == 1 else f"{number}/{count} {printable(name)}"
        self._bar: Any = None
        self._task: Any = None

    def show(self, done: float, total: float | None) -> None:
        """See `mmagent.speech.transcribe.Done`."""
        self.done = done
        if sys.stderr.isatty():
            self._bar = self._bar or self._begun()
            self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Wipe it away."""
        if self._bar:
            self._bar.stop()

    def _begun(self) -> Any:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(20),
            progress.TextColumn("{task.completed:.0f} s"),
            progress.TimeRemainingColumn(),
        )
        bar = progress.Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = bar.add_task(self._title)
        bar.start()
        return bar
