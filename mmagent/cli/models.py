"""``mmagent models`` and ``mmagent pull``: what runs on this machine, and how more gets here. It knows no agent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmagent.cli.printable import printable
from mmagent.errors import InputError

if TYPE_CHECKING:
    from mmagent.engine.catalogue import Entry
    from mmagent.engine.hub import Progress


def list_models(*, as_json: bool) -> None:
    """Print the models of this machine: a table on a terminal, lines with tabs and plain numbers in a pipe."""
    from mmagent.engine.catalogue import installed

    entries = installed()
    if as_json:
        print(json.dumps([_fields(entry) for entry in entries], ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(entries)
    else:
        for entry in entries:
            fields = _fields(entry)
            del fields["folder"], fields["chats"], fields["problem"]
            print(printable("\t".join(_plain(value) for value in fields.values())))
    if not as_json:
        for entry in entries:
            if entry.problem:
                print(f"note: {printable(entry.name)} is unusable: {printable(entry.problem)}", file=sys.stderr)


def pull(name: str) -> None:
    """Download a model of the hub; what an interrupted try has brought is kept.

    Raises:
        NotFound: The hub has no such model.
        ConfigurationError: Terms have to be accepted, or a token is wrong.
        ModelError: The hub cannot be reached, the disk is full, or the model cannot be used.
        StoreLocked: Another process is downloading it.
    """
    from mmagent.engine import hub
    from mmagent.engine.catalogue import describe
    from mmagent.engine.memory import this_machine
    from mmagent.settings import settings

    plan = hub.plan(name)
    here = f", {_bytes(plan.here)} of it here already" if plan.here else ""
    print(f"{name}: {len(plan.files)} files, {_bytes(plan.size)}{here}", file=sys.stderr, flush=True)
    with _bar(plan.size, plan.here) as progress:
        folder = hub.download(plan, progress)
    entry = describe(name, folder, this_machine(settings().device))
    if entry.problem:
        print(f"note: {name} is here and unusable: {printable(entry.problem)}", file=sys.stderr)
    else:
        print(f"{name} is here, {_fit(entry)}; use it with: mmagent chat --model {name}")


def remove(name: str, *, yes: bool) -> None:
    """Delete a downloaded model, after a question unless ``yes``.

    Raises:
        NotFound: It is not in the hub's cache.
        InputError: Nobody can be asked, or the answer is no.
    """
    from mmagent.engine import hub

    folder = hub.cache_folder(name)
    if not yes and folder.is_dir():
        if not sys.stdin.isatty():
            raise InputError(f"{name} is deleted only after a question, and nobody can answer it here; add --yes")
        answer = input(f"delete {name}, {_bytes(hub.disk_size(folder))} in {folder}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            raise InputError(f"{name} is kept")
    print(f"{name} is deleted, {_bytes(hub.remove(name))} are free again")


def _print_table(entries: list[Entry]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mmagent.engine.memory import this_machine
    from mmagent.settings import settings

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    for column in ("on disk", "parameters", "context", "needs"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("takes")
    table.add_column("fit", no_wrap=True)
    for entry in entries:
        table.add_row(
            Text(printable(entry.name)),
            _bytes(entry.size),
            _count(entry.parameters),
            f"{entry.context:,}" if entry.context else "?",
            _bytes(entry.needed),
            ", ".join(entry.modalities),
            entry.fit,
        )
    console = Console(highlight=False)
    console.print(table)
    machine = this_machine(settings().device)
    console.print(f"{_bytes(machine.free)} of memory are free ({machine.device}); more models: mmagent pull ORG/NAME")


@contextmanager
def _bar(total: int, here: int) -> Iterator[Progress]:
    """A progress bar on stderr; nothing where that is no terminal."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total, completed=here)
        yield lambda count: bar.advance(task, count)


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "size": entry.size,
        "parameters": entry.parameters,
        "modalities": list(entry.modalities),
        "context": entry.context,
        "needed": entry.needed,
        "fit": entry.fit,
        "chats": entry.chats,
        "folder": str(entry.folder),
        "problem": entry.problem,
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else str(value).replace("\t", " ").replace("\n", " ")


def _fit(entry: Entry) -> str:
    needs = f"needs {_bytes(entry.needed)} of memory"
    return f"{needs}, which {'fits' if entry.fit == 'fits' else 'is ' + entry.fit}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _count(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"
