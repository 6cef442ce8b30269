"""Checkpoints of a training. They are replaced atomically: after a kill at any moment, the last one is intact."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from archscope.core.errors import ArchscopeError

FORM = 1  # version of the contents


def save(path: Path, body: dict[str, Any]) -> None:
    """Write to a new file in the same folder, sync it to disk, then rename it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as stream:
            torch.save({"archscope_checkpoint": FORM, **body}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint on the CPU; None if there is none. Raises ArchscopeError for another kind of file.

    Code in the file is not run: only tensors and plain values are read.
    """
    if not path.is_file():
        return None
    try:
        body = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ArchscopeError(f"{path} is not a readable checkpoint ({type(error).__name__}); remove it") from error
    if not isinstance(body, dict) or body.get("archscope_checkpoint") != FORM:
        raise ArchscopeError(f"{path} is a checkpoint of another archscope; remove it, or run without --resume")
    return body
