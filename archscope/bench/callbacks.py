"""The meter in the training loops of others: Lightning's Trainer and the Trainer of transformers."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from archscope.bench.meter import Meter
from archscope.core.errors import SpecError


def lightning_meter(inputs: Callable[[Any], Any] | None = None, **options: Any) -> Any:
    """A callback for `lightning.Trainer(callbacks=[…])`, which logs the rates of the training.

    inputs: of a batch what the module's forward takes; by default the first part of a tuple, or the whole batch.
    options: of the `Meter`. It logs `meter/examples_per_second`, `meter/mfu`, … as often as the trainer logs, and has
    the meter as `callback.meter`. Raises SpecError where Lightning is not installed.
    """
    library = _first("lightning.pytorch", "pytorch_lightning")

    class MeterCallback(library.Callback):
        meter: Meter | None = None

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if self.meter is None:
                self.meter = Meter(pl_module, _inputs(batch, inputs), **options)
                self.meter.start()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert self.meter is not None
            reading = self.meter.step(examples=_length(_inputs(batch, inputs)))
            if (trainer.global_step + 1) % trainer.log_every_n_steps == 0 or trainer.log_every_n_steps == 1:
                pl_module.log_dict({f"meter/{key}": value for key, value in reading.numbers().items()})

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if self.meter is not None:
                self.meter.start()

    return MeterCallback()


def trainer_meter(example_batch: Any, **options: Any) -> Any:
    """A callback for `transformers.Trainer(callbacks=[…])`, which adds the rates to what the trainer logs.

    example_batch: a batch as the model takes it, a dict of tensors. options: of the `Meter`. With
    `include_num_input_tokens_seen="non_padding"` of the arguments, MFU counts tokens without padding. The log has
    `meter_examples_per_second`, `meter_mfu`, …, and `callback.meter` is the meter. Raises SpecError where transformers
    is not installed.
    """
    library = _first("transformers")

    class MeterCallback(library.TrainerCallback):
        meter: Meter | None = None
        seen = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
            if self.meter is None:
                self.meter = Meter(model, example_batch, **options)
            self.meter.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            assert self.meter is not None
            tokens = int(state.num_input_tokens_seen) - self.seen  # of all processes
            self.seen += tokens
            examples = args.per_device_train_batch_size * args.gradient_accumulation_steps
            self.meter.step(examples=examples, tokens=tokens / args.world_size or None)

        def on_evaluate(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if self.meter is not None:
                self.meter.start()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if self.meter is not None and logs is not None and "loss" in logs:
                rates = {f"meter_{key}": value for key, value in self.meter.reading().numbers().items()}
                logs.update(rates)
                if state.log_history:
                    state.log_history[-1].update(rates)

    return MeterCallback()


def _first(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise SpecError(f"{names[0]} is not installed: pip install {names[0].partition('.')[0]}")


def _inputs(batch: Any, chosen: Callable[[Any], Any] | None) -> Any:
    if chosen is not None:
        return chosen(batch)
    return batch[0] if isinstance(batch, (list, tuple)) else batch


def _length(inputs: Any) -> int:
    values = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, (list, tuple)) else [inputs]
    )
    return next(len(value) for value in values if isinstance(value, torch.Tensor))
