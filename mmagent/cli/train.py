"""``mmagent train``: options, progress, and what is said at the end. It knows recipes and runs, not how they learn."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mmagent.cli.printable import printable, tell
from mmagent.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from mmagent.train import Progress, Recipe, Watch

_RECIPE = "recipe"
"""The command that a first word is for which is no other command's name; it is not shown."""


class _RecipeOrCommand(TyperGroup):
    """``train RECIPE`` beside ``train preview`` and ``train plot``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            if args and (near := difflib.get_close_matches(args[0], self.commands.keys() - {_RECIPE}, 1)):
                ctx.fail(f"there is no recipe or command {args[0]!r}; did you mean {near[0]}?")
            args = [_RECIPE, *args]
        return super().parse_args(ctx, args)


class _Unnamed(TyperCommand):
    def format_usage(self, ctx: Any, formatter: Any) -> None:
        formatter.write_usage(ctx.parent.command_path, " ".join(self.collect_usage_pieces(ctx)))


train_app = typer.Typer(
    cls=_RecipeOrCommand, help="Train a model from a recipe; stop and go on at any time.", rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a YAML file.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value, e.g. losses.marks=0.2. Repeatable."),
]


@train_app.command(_RECIPE, cls=_Unnamed, hidden=True, epilog="Also: mmagent train preview, mmagent train plot.")
def train_recipe(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help="A recipe's name, or a YAML file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the run goes; runs/RECIPE if left out.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="DIR", help="The weights to start from, not the recipe's.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Not the recipe's number.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Fixes data, weights and order.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--fresh", help="Go on in DIR, or begin anew there.")] = True,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that make batches.")] = 1,
    changes: Set = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
) -> None:
    """Train a model from a recipe; stop and go on at any time."""
    if listed:
        list_recipes()
        return
    chosen = read_recipe(_given(recipe), changes or (), start=start, steps=steps, seed=seed)
    run(chosen, out or Path("runs") / chosen.name, resume=resume, workers=workers)


@train_app.command("preview")
def preview(
    recipe: Name,
    count: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Samples in the picture.")] = 12,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The picture, or recording; preview.png or .wav if left out."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Other samples.")] = 0,
    changes: Set = None,
) -> None:
    """See samples as training sees them, and what each source costs and gives; of speech, hear them."""
    chosen = read_recipe(recipe, changes or ())
    if chosen.stage == "speech":
        _hear(chosen, out or Path("preview.wav"), count, seed)
        return
    from mmagent.train.preview import preview as work

    out = out or Path("preview.png")
    shown = work(chosen, out, count=count, seed=seed, runs=Path("runs"), told=tell)
    print(printable(shown.table()))
    print(f"{shown.pictured} samples are in {out}; the words that the loss counts are blue")


def _hear(recipe: Recipe, out: Path, count: int, seed: int) -> None:
    from mmagent.train.speech.preview import preview as work

    for played in work(recipe, out, count=count, seed=seed):
        print(printable(played.line()))
    print(f"{count} samples are in {out}")


@train_app.command("plot")
def plot(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders of runs; several lie over each other.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The SVG; curves.svg in the first DIR if left out.")
    ] = None,
) -> None:
    """Draw learning curves: loss and shares right over tokens."""
    from mmagent.train.plot import draw

    print(f"the curves are in {draw(folders, out or folders[0] / 'curves.svg')}")


def list_recipes() -> None:
    """Print each recipe's name and what it is about."""
    from mmagent.train.recipe import load, names

    width = max(map(len, names()))
    for name in names():
        print(f"{name:{width}}  {printable(load(name).about)}")


def _given(recipe: str | None) -> str:
    from mmagent.train.recipe import names

    if recipe is None:
        raise InputError(f"which recipe? choose one of: {', '.join(names())}, or give the path of a YAML file")
    return recipe


def read_recipe(name: str, changes: Sequence[str] = (), **fields: Any) -> Recipe:
    """A recipe with some fields changed.

    Args:
        name: Its name, or its file.
        changes: ``key=value``, the key with dots where it lies deeper, the value as YAML.
        fields: Fields that are not None replace the recipe's, after ``changes``.

    Raises:
        ConfigurationError: There is no such recipe or field, or a value does not fit.
    """
    from mmagent.train.recipe import load, parse

    if not changes:
        return load(name, **fields)
    values = load(name).model_dump(mode="json", exclude_unset=True)
    for change in changes:
        _put(values, change)
    return parse(values | {key: value for key, value in fields.items() if value is not None}, name)


def _put(values: dict[str, Any], change: str) -> None:
    """Set ``a.b.0.c=value`` in nested fields."""
    import yaml

    key, mark, text = change.partition("=")
    if not (key and mark):
        raise ConfigurationError(f"--set {change} is no KEY=VALUE; give e.g. --set losses.marks=0.2")
    *parents, last = key.split(".")
    place: Any = values
    try:
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[int(last) if isinstance(place, list) else last] = yaml.safe_load(text)
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"--set {change} does not fit the recipe: {error}; docs/train.md has its fields"
        ) from error


def run(recipe: Recipe, out: Path, *, resume: bool, workers: int) -> None:
    """Train, show how it goes, and say where the model is.

    Raises:
        KeyboardInterrupt: It was stopped; what to do next has been said.
    """
    from mmagent.train import Watch

    first = is_first_process()
    try:
        with _watching(recipe, out) if first else _silent(Watch()) as watch:
            folder = _work(recipe)(recipe, out, resume=resume, watch=watch, workers=workers)
    except KeyboardInterrupt:
        if first:
            _say_how_to_go_on(out, fresh=not resume)
        raise
    if first:
        use = f"transcribe --model {folder} FILE" if recipe.stage == "speech" else f'run --model {folder} "..."'
        print(f"{recipe.name} is in {folder}; use it with: mmagent {use}")


def is_first_process() -> bool:
    """Whether this is the process that speaks, of those that ``accelerate launch`` or ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def _work(recipe: Recipe) -> Any:
    if recipe.stage == "lora":
        from mmagent.train.lora import train_lora

        return train_lora
    if recipe.stage == "speech":
        from mmagent.train.speech.run import train_speech

        return train_speech
    from mmagent.train import train

    return train


def _say_how_to_go_on(out: Path, *, fresh: bool) -> None:
    from mmagent.train.checkpoints import Checkpoints
    from mmagent.train.folder import tidy

    tidy(out)
    steps = Checkpoints(out / "checkpoints", {}).steps()
    where = f"from step {steps[-1]}" if steps else "from the beginning, as no checkpoint was written yet"
    tell(f"the same command{' without --fresh' if fresh else ''} goes on {where}")


@contextmanager
def _silent(watch: Watch) -> Iterator[Watch]:
    yield watch


@contextmanager
def _watching(recipe: Recipe, out: Path) -> Iterator[Watch]:
    """A bar on a terminal, lines elsewhere; both on stderr."""
    from rich import progress
    from rich.console import Console

    from mmagent.train import Watch

    console = Console(stderr=True, highlight=False)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[figures]}"),
    )

    class Shown(Watch):
        def __init__(self, bar: progress.Progress) -> None:
            self.bar, self.task = bar, bar.add_task(recipe.name, total=recipe.steps, figures="", start=False)
            self.since: tuple[int, float] | None = None
            """The first step that was told of, and when."""

        def said(self, line: str) -> None:
            _line(self.bar, line)

        def stepped(self, progress: Progress) -> None:
            now = time.monotonic()
            self.since = self.since or (progress.step, now)
            figures = _figures(progress, _left(progress, self.since, now))
            if self.bar.disable:
                _line(self.bar, f"step {progress.step:,} of {progress.steps:,}  {figures}")
            self.bar.update(self.task, completed=progress.step, figures=figures)

        def checked(self, progress: Progress) -> None:
            from mmagent.train.plot import draw

            shares = (f"{name.removeprefix('right ')} {share:.0%}" for name, share in progress.figures.items())
            _line(self.bar, f"check at step {progress.step:,}, right: {', '.join(shares)}")
            draw([out], out / "curves.svg")

    bar = progress.Progress(*columns, console=console, disable=not console.is_terminal)
    with bar:
        yield Shown(bar)


def _line(bar: Any, line: str) -> None:
    """A line above the bar."""
    if bar.disable:
        print(printable(line), file=sys.stderr, flush=True)
    else:
        bar.console.print(printable(line), markup=False, highlight=False)


def _figures(progress: Progress, left: float | None) -> str:
    figures = progress.figures
    parts = [f"{name} {figures[name]:.3g}" for name in ("loss", "contrastive", "marks") if name in figures]
    parts += [f"{name} {share:.0%}" for name, share in figures.items() if name.startswith(("matched", "characters"))]
    if "tokens_per_second" in figures:
        parts.append(f"{figures['tokens_per_second']:,.0f} tokens/s")
    return "  ".join([*parts, *([f"{duration(left)} left"] if left is not None else [])])


def _left(progress: Progress, since: tuple[int, float], now: float) -> float | None:
    """Seconds to go, by the pace so far; None where there is none yet."""
    taken = progress.step - since[0]
    return (now - since[1]) / taken * (progress.steps - progress.step) if taken else None


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
