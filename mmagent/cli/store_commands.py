"""``mmagent index``, ``search``, ``store``: options and help. A command imports its work when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmagent.cli.options import Json

store_app = typer.Typer(help="Look after a store of documents.", no_args_is_help=True, rich_markup_mode=None)

Store = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of documents that has a store, or a store.")]
Looked = Annotated[Path, typer.Option("--knowledge", metavar="DIR", help="A folder of documents, or a store.")]
Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Whose documents; everybody's are without.")]
Mode = Annotated[Literal["hybrid", "dense", "lexical"], typer.Option("--mode", help="By meaning, by words, or both.")]
Embedder = Annotated[
    str | None,
    typer.Option("--embedder", metavar="NAME", help="minilm, a folder, or a hub id. [MMAGENT_EMBEDDER]"),
]
PictureEmbedder = Annotated[
    str | None,
    typer.Option("--picture-embedder", metavar="NAME", help="A folder or a hub id. [MMAGENT_PICTURE_EMBEDDER]"),
]


def index(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Folders of documents, or files.")],
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="Where to; each folder has its own if left out.")
    ] = None,
    tenant: Tenant = "",
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="What searches can ask for with --where. Repeatable."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, whenever something changes, until Ctrl-C.")] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Have the model say what pictures show.")] = False,
    embedder: Embedder = None,
    picture_embedder: PictureEmbedder = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, help="Processes that read. [MMAGENT_INDEX_WORKERS]"),
    ] = None,
    ocr: Annotated[
        bool | None, typer.Option("--ocr/--no-ocr", help="Read the text in pictures and scans. [MMAGENT_OCR]")
    ] = None,
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List every file that is left out.")] = False,
) -> None:
    """Read documents into the search index; what did not change is skipped."""
    from mmagent.cli.index import Index
    from mmagent.cli.index import index as work
    from mmagent.cli.stores import Embedders

    embedders = Embedders(embedder, picture_embedder)
    wanted = Index(tuple(paths), store, tenant, tuple(meta or ()), embedders, describe, workers, ocr)
    work(wanted, watch=watch, as_json=as_json, verbose=verbose)


def search(
    knowledge: Looked,
    query: Annotated[list[str] | None, typer.Argument(metavar="QUERY", help="What to look for.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Passages at most.")] = 5,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="A picture to look for, alone or with words.")
    ] = None,
    tenant: Tenant = "",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE|JSON", help='E.g. lang=en, {"year": {"$gte": 2024}}. Repeatable.'),
    ] = None,
    mode: Mode = "hybrid",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="text, speech, image, page, region or frame. Repeatable."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join neighbouring passages.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Write the pages and pictures that were found there.")
    ] = None,
    embedder: Embedder = None,
    picture_embedder: PictureEmbedder = None,
    as_json: Json = False,
) -> None:
    """Find passages and pictures in documents."""
    from mmagent.cli.stores import Embedders, Search
    from mmagent.cli.stores import search as work

    asked = Search(" ".join(query or ()), image, limit, tenant, tuple(where or ()), mode, tuple(kind or ()), merge)
    work(asked, knowledge, Embedders(embedder, picture_embedder), save=save, as_json=as_json)


@store_app.command("stats")
def store_stats(folder: Store, as_json: Json = False) -> None:
    """Say what a store holds."""
    from mmagent.cli.store import stats

    stats(folder, as_json=as_json)


@store_app.command("list")
def store_list(folder: Store, tenant: Tenant = "", as_json: Json = False) -> None:
    """List the documents: name, type, bytes, title."""
    from mmagent.cli.store import list_documents

    list_documents(folder, tenant=tenant, as_json=as_json)


@store_app.command("remove")
def store_remove(
    folder: Store,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Documents or folders of them.")],
    tenant: Tenant = "",
) -> None:
    """Take documents out; the files stay, and the next index of their folder takes them in again."""
    from mmagent.cli.store import remove

    remove(folder, names, tenant=tenant)


@store_app.command("verify")
def store_verify(folder: Store, as_json: Json = False) -> None:
    """Read everything a store holds and say what is wrong with it."""
    from mmagent.cli.store import verify

    raise typer.Exit(verify(folder, as_json=as_json))


@store_app.command("rebuild")
def store_rebuild(folder: Store) -> None:
    """Build the indexes anew from the stored texts and vectors; nothing is embedded."""
    from mmagent.cli.store import rebuild

    rebuild(folder)
