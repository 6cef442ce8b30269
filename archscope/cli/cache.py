"""`cache`: to look after the stored records."""

from typing import Annotated

import typer

from archscope.cli.base import OneCommand, choice, put, whole_number

app = typer.Typer()


@app.command("cache", cls=OneCommand)
def cache_command(
    action: Annotated[str, typer.Argument(help="show, clear or verify.", metavar="ACTION")] = "show",
    sample: Annotated[
        str | None, typer.Option("--sample", help="For verify: how many records to run again (5).", metavar="N")
    ] = None,
) -> None:
    """The records that archscope keeps, so that an unchanged model is not run again.

    They are in the cache folder of the user, or in $ARCHSCOPE_CACHE; ARCHSCOPE_CACHE=off keeps none, and
    $ARCHSCOPE_CACHE_SIZE is the limit in MB (256). verify exits with 1 where a new run gives another record.

    \b
    archscope cache show
    archscope cache clear
    archscope cache verify --sample 20
    """
    from archscope.sources import store

    choice("action", action, ("show", "clear", "verify"))
    count = whole_number("--sample", sample) or 5
    if not store.folder():
        put("The store is off: $ARCHSCOPE_CACHE\n")
        return
    if action == "show":
        files = store.entries()
        size = sum(one.st_size for _, one in files)
        records = "1 record" if len(files) == 1 else f"{len(files)} records"
        put(f"{store.folder()}\n{records}, {size / 1e6:.1f} MB of {store.limit() / 1e6:.0f} MB\n")
    elif action == "clear":
        files = store.entries()
        for path, _ in store.entries("*"):
            store.remove(path)
        put(f"{len(files)} record{'' if len(files) == 1 else 's'} deleted\n")
    else:
        from archscope.sources.records import verified

        results = list(verified(count))
        for text, wrong in results:
            put(f"{'✗' if wrong else '✓'} {text}{f': {wrong}' if wrong else ''}\n")
        put(f"{len(results)} run again, {sum(bool(wrong) for _, wrong in results)} wrong\n")
        if any(wrong for _, wrong in results):
            raise typer.Exit(1)
