"""Progress of training on stderr: a live bar on a terminal, else a line per epoch."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Show = Callable[[str, dict[str, Any]], None]  # called with the model and the event


def line(model: str, event: dict[str, Any]) -> str | None:
    """An event as one line of text, or None."""
    if event["event"] == "epoch":
        held = f"  validation {event['validation_accuracy']:.1%}" if "validation_accuracy" in event else ""
        return (
            f"{model}  epoch {event['epoch']}/{event['epochs']}  loss {event['train_loss']:.4f}  train "
            f"{event['train_accuracy']:.1%}{held}  test {event['test_accuracy']:.1%}  "
            f"{event['examples_per_second']:,.0f} examples/s"
        )
    if event["event"] == "memory":
        return f"{model}  memory is short: {event['micro_batch']} examples at a time"
    if event["event"] == "note":
        return f"{model}  {event['text']}"
    return None


@contextmanager
def shown() -> Iterator[Show]:
    """A live bar on a terminal, plain lines in CI and pipes."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        yield _plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn(),
        console=Console(stderr=True), refresh_per_second=4, transient=True,
    ) as bar:  # fmt: skip
        tasks: dict[str, Any] = {}

        def live(model: str, event: dict[str, Any]) -> None:
            if model not in tasks:
                tasks[model] = bar.add_task(model, total=None, text="")
            if event["event"] == "step":
                done = (event["epoch"] - 1) * event["steps"] + event["step"]
                bar.update(tasks[model], completed=done, total=event["epochs"] * event["steps"])
            elif event["event"] == "row":
                bar.remove_task(tasks.pop(model))
            elif (text := line(model, event)) is not None:
                bar.update(tasks[model], text=text.partition("  ")[2])

        yield live


def _plain(model: str, event: dict[str, Any]) -> None:
    text = line(model, event)
    if text is not None and sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)
