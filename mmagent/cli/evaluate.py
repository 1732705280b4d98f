"""``mmagent eval``: options, progress and tables. It knows reports and how they look, nothing of what is measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmagent.cli.options import Json
from mmagent.cli.outcome import FAILED
from mmagent.cli.printable import printable
from mmagent.cli.store_commands import Embedder, Looked, Mode
from mmagent.errors import InputError

if TYPE_CHECKING:
    from mmagent.evaluate.nano import Report

eval_app = typer.Typer(help="Measure how well something works.", no_args_is_help=True, rich_markup_mode=None)


@eval_app.command("retrieval")
def eval_retrieval(
    knowledge: Looked,
    questions: Annotated[
        Path, typer.Option("--questions", metavar="FILE", help="A line of JSON each: query, relevant, answer.")
    ],
    ks: Annotated[str, typer.Option("-k", metavar="N,N", help="How many of the best count.")] = "1,5,10",
    mode: Mode = "hybrid",
    embedder: Embedder = None,
    as_json: Json = False,
) -> None:
    """Measure how well a store finds what questions are about."""
    from mmagent.cli.store import evaluate_retrieval
    from mmagent.cli.stores import Embedders

    evaluate_retrieval(knowledge, questions, Embedders(embedder), ks=ks, mode=mode, as_json=as_json)


_EXIT = "Exit code: 0 if every bar that was measured is met, 1 if not, 130 after Ctrl-C."
Skills = Annotated[list[str] | None, typer.Option("--skill", metavar="NAME", help="Only this one. Repeatable.")]
Count = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, help="Questions of each skill; its own if left out.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Other questions.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the report there as JSON.")]
Card = Annotated[
    list[Path] | None,
    typer.Option("--card", metavar="DIR", help="A run that made it, in order; writes its model card. Repeatable."),
]
Limits = Annotated[
    Path | None, typer.Option("--limits", metavar="FILE", help="Markdown for the card: what it cannot do.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show some of what went wrong.")]


@eval_app.command("nano", epilog=_EXIT)
def eval_nano(
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="nano, a folder, or a hub id.", show_default=True)
    ] = "nano",
    skills: Skills = None,
    count: Count = None,
    seed: Seed = 0,
    as_json: Json = False,
    out: Out = None,
    card: Card = None,
    limits: Limits = None,
    verbose: Verbose = False,
) -> None:
    """Hold a model to what nano is held to, skill by skill. Exits with 0 if all bars are met."""
    from mmagent import nano
    from mmagent.chat import LocalModel
    from mmagent.engine.load import find_folder
    from mmagent.evaluate.nano import evaluate

    measured, folder = LocalModel(model), nano.folder() if model == "nano" else find_folder(model)

    def work(**asked: Any) -> Report:
        return evaluate(measured, folder, skills or (), count=count, seed=seed, **asked)

    _evaluate(work, folder, as_json=as_json, out=out, card=card, limits=limits, verbose=verbose)


@eval_app.command("speech", epilog=_EXIT)
def eval_speech(
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="nano, folder, .pt file or hub id. [MMAGENT_SPEECH_MODEL]"),
    ] = None,
    skills: Skills = None,
    count: Count = None,
    seed: Seed = 0,
    as_json: Json = False,
    out: Out = None,
    card: Card = None,
    limits: Limits = None,
    verbose: Verbose = False,
) -> None:
    """Measure a speech model: digits, order numbers, phrases, silence, long form. Exits with 0 if all bars are met."""
    from mmagent.evaluate.speech import evaluate
    from mmagent.settings import settings
    from mmagent.speech import load_transcriber
    from mmagent.speech.engines.load import chosen, find_model

    folder = find_model(chosen(model))
    ear = load_transcriber(folder, settings().device)

    def work(**asked: Any) -> Report:
        return evaluate(ear, folder, skills or (), count=count, seed=seed, **asked)

    _evaluate(work, folder, as_json=as_json, out=out, card=card, limits=limits, verbose=verbose)


def _evaluate(
    work: Callable[..., Report],
    folder: Path,
    *,
    as_json: bool,
    out: Path | None,
    card: list[Path] | None,
    limits: Path | None,
    verbose: bool,
) -> None:
    """Measure, show how it goes, and write report and card.

    Raises:
        typer.Exit: With 0 if all bars are met.
    """
    from mmagent.evaluate.card import check, write_card

    if limits and not card:
        raise InputError("--limits is for the card; give --card DIR, too")
    words = check(folder, card, limits) if card else ""  # before hours of asking, not after
    if out is not None:
        _make_room(out)

    with _progress() as shown:

        def done(report: Report) -> None:
            shown.done()
            if out is not None:
                _save(report, out)

        report = work(began=shown.began, told=shown.told, done=done)
    print(report.json() if as_json else printable(table(report, verbose=verbose)), flush=True)
    if card:
        (folder / "MODEL_CARD.md").write_text(write_card(folder, report, card, limits=words), encoding="utf-8")
    raise typer.Exit(0 if report.met else FAILED)


def _make_room(out: Path) -> None:
    """Raises InputError where no report could be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"no report can be written to {out}: {error}; name another file with --out") from error
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out")


def _save(report: Report, out: Path) -> None:
    """The report so far; a file that was there is replaced whole, so that an end at any time leaves one of them."""
    part = out.with_name(f"{out.name}.part")
    part.write_text(report.json() + "\n", encoding="utf-8")
    os.replace(part, out)


def table(report: Report, *, verbose: bool = False) -> str:
    """A line for each score and each skill that was skipped; then whether the bars are met, and of what."""
    rows = [("skill", "right", "share", "bar", "met")]
    notes: list[str] = []
    for one in report.measured:
        for score in one.scores:
            right, share, bar, met = cells(score)
            rows.append((score.name, right, share, bar, met))
            notes += [f"{score.name}: {score.note}"] if score.note else []
            if verbose:
                notes += [f"{score.name}: {line}" for line in score.wrong]
        what = "failed" if one.failed else "skipped"
        rows += [(one.skill, what, "", "", "")] if not one.scores else []
        notes += [f"{one.skill} {what}: {why}" for why in one.skipped]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))).rstrip() for row in rows]
    missed = [score.name for score in report.scores if score.met is False]
    end = f"not met: {', '.join(missed)}" if missed else "every bar that was measured is met"
    end = end if any(score.met is not None for score in report.scores) else "no bar was measured"
    if failed := [one.skill for one in report.measured if one.failed]:
        end += f"; failed: {', '.join(failed)}"
    return "\n".join(
        [*lines, "", *notes, f"{report.model} ({report.hash}) on {report.machine}, seed {report.seed}: {end}"]
    )


def cells(score: Any) -> tuple[str, str, str, str]:
    """Right of total, share, bar and whether it is met, as a table has them."""
    if score.total:
        right, share = f"{score.right:g}/{score.total}", f"{score.share:.1%}"
        bar = "" if score.bar is None else f"{score.bar:.0%}"
    else:
        right, share = f"{score.right:g} {score.unit}".rstrip(), ""
        bar = "" if score.bar is None else f"{score.bar:g} {score.unit}".rstrip()
    return right, share, bar, {True: "met", False: "NOT met", None: ""}[score.met]


class _Progress:
    """Says on stderr which skill is on and how it goes: a bar on a terminal, lines elsewhere."""

    def __init__(self, bar: Any) -> None:
        self.bar, self.task = bar, bar.add_task("", total=None)

    def began(self, name: str, index: int, total: int) -> None:
        self.bar.update(self.task, description=name, completed=index, total=total)
        self._line(f"{name} ({index + 1} of {total})")

    def told(self, line: str) -> None:
        self.bar.update(self.task, description=printable(line))
        self._line(line)

    def done(self) -> None:
        self.bar.advance(self.task)

    def _line(self, line: str) -> None:
        if self.bar.disable:
            print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def _progress() -> Iterator[_Progress]:
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    words = progress.TextColumn("{task.description}", markup=False)
    columns = (progress.SpinnerColumn(), progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), words)
    with progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield _Progress(bar)
