"""Rows like those of `archscope bench`, for tests."""

from typing import Any


def row(**more: Any) -> dict[str, Any]:
    """A training of LeNet with two epochs; more: other fields."""
    history = [
        {"epoch": i, "train_loss": 1 / i, "train_accuracy": i / 4, "validation_accuracy": None, "test_accuracy": i / 5}
        for i in (1, 2)
    ]
    return {
        "schema": 1, "kind": "train", "key": "k", "model": "lenet", "recipe": "d2l", "data": "digits", "seed": 0,
        "device": "cpu", "device_name": "CPU", "threads": 1, "world_size": 1, "precision": "fp32", "flags": {},
        "params": 61_706, "test_accuracy": 0.4, "examples_per_second": 1000.0, "status": "ok", "error": None,
        "archscope": "0", "torch": "2", "history": history,
    } | more  # fmt: skip
