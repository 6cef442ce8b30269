"""The training loop, read top to bottom.

A step gathers a batch on the device, then runs forward, loss, backward and update. Within an epoch the CPU never waits
for the device: losses and correct predictions stay in tensors there until the epoch ends. All random numbers of an
epoch depend on (seed, epoch) only, so on the CPU a resumed training gives the same bits as an uninterrupted one.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from archscope.bench import checkpoint
from archscope.bench.datasets.base import Data, Split
from archscope.bench.device import (
    PLAIN,
    Clock,
    Flags,
    autocast,
    forget_peak,
    is_out_of_memory,
    peak_memory,
    quantile,
    release,
    synchronize,
)
from archscope.bench.parallel import ALONE, Group
from archscope.bench.prepare import AlexNet2012, SplitBatches
from archscope.bench.recipes import Recipe
from archscope.core.errors import ArchscopeError

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Plan:
    """How one training runs. shape: of the input without the batch. layout: its axes with the batch. warmup: maximum of
    steps before time is measured; they leave the state unchanged. key: of the run, checked on resume."""

    recipe: Recipe
    shape: tuple[int, ...]
    layout: str
    device: torch.device
    flags: Flags = PLAIN
    seed: int = 0
    group: Group = ALONE
    warmup: int = 10
    checkpoint: Path | None = None
    resume: bool = False
    key: str = ""


@dataclass
class Outcome:
    """Measurements of the completed epochs. history: one dict per epoch. Seconds, milliseconds, bytes."""

    history: list[dict[str, Any]] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    train_s: float = 0.0
    wait_s: float = 0.0
    eval_s: float = 0.0
    prepare_s: float = 0.0
    warmup_s: float = 0.0
    compile_s: float | None = None
    examples: int = 0
    steps: int = 0
    micro_batch: int = 0
    best_epoch: int = 0
    resumed: bool = False
    memory: dict[str, int | None] = field(default_factory=dict)
    sample: str = ""

    KEPT = ("history", "step_ms", "train_s", "wait_s", "eval_s", "examples", "steps", "best_epoch")


class Diverged(ArchscopeError):
    """The loss is not finite; the message names the step."""

    exit_code = 1


class Memory(ArchscopeError):
    """Memory ran out with the smallest possible part."""

    exit_code = 1


def train(model: nn.Module, data: Data, plan: Plan, outcome: Outcome, report: Report = lambda event: None) -> nn.Module:
    """Train a model (on the CPU, as it was built) and return it, with the best weights if the recipe keeps those.

    Measurements go into `outcome` after each epoch. report: called with events, {"event": "step" or "epoch"}.
    Raises Diverged for a loss that is not finite, Memory if not even one example fits, and errors of the model.
    """
    recipe, flags, device, group = plan.recipe, plan.flags, plan.device, plan.group

    # data, moved to the device once
    begun = time.perf_counter()
    fit, held = held_out(data.train, recipe.validation, plan.seed)
    feed, validating, testing = (
        SplitBatches(part, plan.shape, plan.layout, device, recipe.mean, recipe.std, flags.channels_last)
        for part in (fit, held, data.test)
    )
    augment = AlexNet2012(fit.inputs) if recipe.augment == "alexnet2012" else None
    examples, batch = len(feed), recipe.batch
    steps = -(-examples // batch)

    synchronize(device)
    outcome.prepare_s = time.perf_counter() - begun

    # model and optimiser
    layout = torch.channels_last if flags.channels_last and len(plan.shape) == 3 else torch.preserve_format
    model = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = OPTIMIZERS[recipe.optimizer](model, recipe, flags)
    scaler = torch.amp.GradScaler(device.type, enabled=flags.precision == "fp16")
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)
    criterion = LOSSES[recipe.loss]
    quick = torch.compile(model, mode=flags.compile) if flags.compile else model
    quick = group.wrap(quick, device)
    micro = min(-(-batch // group.world), examples)  # examples per part: fewer if memory is short
    waited = 0.0

    def gradients(indices: Tensor, losses: Tensor, hits: Tensor, quiet: bool = False) -> None:
        """Accumulate the gradient of the mean loss over this process's share of a global batch."""
        nonlocal waited
        total = len(indices) * feed.targets
        mine = group.share(indices)
        idle = not len(mine)  # a last batch smaller than the group: contribute zeros
        parts = (indices[:1] if idle else mine).split(micro)
        for part in parts:
            asked = time.perf_counter()
            x, y = feed.batch(part)
            if augment is not None:
                x = augment(x)
            waited += time.perf_counter() - asked
            whole = len(part) == micro or group.world > 1 or not flags.compile
            silent = group.world > 1 and (quiet or part is not parts[-1])  # gradients are averaged once per step
            with quick.no_sync() if silent else contextlib.nullcontext():  # type: ignore[operator]
                with autocast(flags, device):
                    output = (quick if whole else model)(x)
                    loss = criterion(output, y)
                right = (scores(output).argmax(1) == y).sum()
                if idle:
                    loss, right = loss * 0, right * 0
                scaler.scale(loss * (group.world / total)).backward()
            losses += loss.detach()
            hits += right

    def gradients_in_memory(indices: Tensor, losses: Tensor, hits: Tensor, quiet: bool = False) -> None:
        """The same in smaller parts if memory runs out. The global batch, and so the recipe, does not change."""
        nonlocal micro
        while True:
            short = False
            try:
                gradients(indices, losses, hits, quiet)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if group.world > 1 and not quiet:  # the other processes would wait forever
                    raise Memory(str(error).splitlines()[0]) from error
                short = True
            if not (group.any(short, device) if quiet else short):
                return
            if micro == 1:
                raise Memory("not even one example at a time fits into memory")
            micro = -(-micro // 2)  # here the failed pass and its traceback are released
            optimizer.zero_grad(set_to_none=True)
            losses.zero_()
            hits.zero_()
            release(device)
            report({"event": "memory", "micro_batch": micro})

    def evaluate(feed: SplitBatches) -> tuple[float, float]:
        """Mean loss and accuracy over a split, in evaluation mode."""
        model.eval()
        sums = torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        with torch.no_grad():
            for part in group.share(torch.arange(len(feed), device=device)).split(max(micro, 1)):
                x, y = feed.batch(part)
                with autocast(flags, device):
                    output = scores(model(x))
                    sums[0] += criterion(output, y)
                sums[1] += (output.argmax(1) == y).sum()
        loss, right = (group.sum(sums) / (len(feed) * feed.targets)).tolist()
        return loss, right

    # warm-up: the first steps include one-time costs; the state is restored afterwards
    begun = time.perf_counter()
    if plan.warmup or group.world > 1:
        state = copy.deepcopy(model.state_dict())
        model.train()
        torch.manual_seed(plan.seed)
        for turn in range(max(plan.warmup, 1)):
            spare = torch.zeros(2, device=device)
            first = torch.arange(min(batch, examples), device=device)
            gradients_in_memory(first, spare[0], spare[1], quiet=turn == 0)
            if turn:  # the first turn only finds the part that fits
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad(set_to_none=True)
            synchronize(device)
            if flags.compile and not turn:
                outcome.compile_s = time.perf_counter() - begun
            if not group.any(time.perf_counter() - begun < WARM, device):
                break
        model.load_state_dict(state)
        optimizer.state.clear()
        scaler = torch.amp.GradScaler(device.type, enabled=flags.precision == "fp16")
        del state
    outcome.warmup_s = time.perf_counter() - begun

    # resume
    best: dict[str, Any] = {"loss": math.inf, "weights": None}
    start = 0
    body = checkpoint.load(plan.checkpoint) if plan.checkpoint and plan.resume else None
    if body is not None:
        if body["key"] != plan.key:
            raise ArchscopeError(f"{plan.checkpoint} belongs to another run; remove it, or run without --resume")
        model.load_state_dict(body["model"])
        optimizer.load_state_dict(body["optimizer"])
        scheduler.load_state_dict(body["scheduler"])
        scaler.load_state_dict(body["scaler"])
        for name in Outcome.KEPT:
            setattr(outcome, name, body["outcome"][name])
        best, start, micro, outcome.resumed = body["best"], body["epoch"], min(micro, body["micro"]), True

    forget_peak(device)
    for epoch in range(start + 1, recipe.epochs + 1):
        random = torch.Generator().manual_seed(mixed(plan.seed, epoch))
        order = torch.randperm(examples, generator=random).to(device)
        torch.manual_seed(mixed(mixed(plan.seed, epoch), group.rank))  # dropout, augmentation
        losses, hits = torch.zeros(2, steps, device=device)
        model.train()
        waited, clock, reported = 0.0, Clock(device), time.perf_counter()
        synchronize(device)
        begun = time.perf_counter()
        clock.mark()

        for step, indices in enumerate(order.split(batch)):
            gradients_in_memory(indices, losses[step], hits[step])
            if recipe.clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            clock.mark()
            if device.type == "cpu" and group.world == 1 and not losses[step].isfinite():
                break  # cheap on the CPU; elsewhere checked after the epoch
            if time.perf_counter() - reported > 0.5:  # without waiting for the device
                reported = time.perf_counter()
                report({"event": "step", "epoch": epoch, "epochs": recipe.epochs, "step": step + 1, "steps": steps})

        synchronize(device)
        took = time.perf_counter() - begun
        losses, hits = group.sum(losses).cpu(), group.sum(hits).cpu()
        if not losses.isfinite().all():
            wrong = int((~losses.isfinite()).nonzero()[0])
            what = "not a number" if losses[wrong].isnan() else "infinite"
            raise Diverged(f"the loss is {what} at step {wrong + 1} of {steps} in epoch {epoch}")
        spent = clock.steps()
        if examples % batch and steps > 1:
            spent = spent[:-1]  # the step of a shorter last batch
        outcome.step_ms += group.maximum(spent, device)
        outcome.train_s += took
        outcome.wait_s += waited
        outcome.examples += examples
        outcome.steps += steps
        outcome.micro_batch, outcome.memory = micro, peak_memory(device)

        group.align(model)
        begun = time.perf_counter()
        row: dict[str, Any] = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"]}
        row["train_loss"] = float(losses.double().sum()) / (examples * feed.targets)
        row["train_accuracy"] = float(hits.double().sum()) / (examples * feed.targets)
        if len(validating):
            row["validation_loss"], row["validation_accuracy"] = evaluate(validating)
        row["test_loss"], row["test_accuracy"] = evaluate(testing)
        outcome.eval_s += time.perf_counter() - begun
        row |= {"seconds": took, "examples_per_second": examples / took, "data_wait_share": waited / took}
        if recipe.schedule == "plateau":
            scheduler.step(row["validation_loss"])
        if recipe.keep == "best-validation" and row["validation_loss"] < best["loss"]:
            weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            best = {"loss": row["validation_loss"], "weights": weights}
            outcome.best_epoch = epoch
        outcome.history.append(row)
        if plan.checkpoint and group.first:
            body = {
                "key": plan.key, "epoch": epoch, "micro": micro, "best": best, "model": model.state_dict(),
                "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(), "scaler": scaler.state_dict(),
                "outcome": {name: getattr(outcome, name) for name in Outcome.KEPT},
            }  # fmt: skip
            checkpoint.save(plan.checkpoint, body)
        report({"event": "epoch", "epochs": recipe.epochs, **row})

    outcome.micro_batch = micro
    if best["weights"] is not None:
        model.load_state_dict(best["weights"])
    if data.letters:
        with torch.no_grad():
            predicted = scores(model.eval()(testing.batch(torch.zeros(1, dtype=torch.long, device=device))[0])).argmax(
                1
            )
        outcome.sample = "".join(data.letters[i] for i in predicted.tolist())
    return model


WARM = 2.0  # seconds of warm-up


def mixed(seed: int, epoch: int) -> int:
    """The seed of one epoch."""
    return seed * 1_000_003 + epoch


def held_out(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Training and validation examples: a share of the examples, drawn with the seed, is for validation."""
    held = torch.zeros(len(split), dtype=torch.bool)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    held[order[: round(len(split) * share)]] = True
    return split.divided(held) if share else (split, split.at(slice(0)))


def scores(output: Any) -> Tensor:
    """The scores [n, classes]: the first output; further outputs are auxiliary heads."""
    return output if isinstance(output, Tensor) else next(iter(output))


def _summed(loss: Callable[..., Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """The loss summed over the batch. Auxiliary heads add theirs with weight 0.3 (Szegedy et al. 2015, section 5)."""

    def total(output: Any, y: Tensor) -> Tensor:
        if isinstance(output, Tensor):
            return loss(output.float(), y, reduction="sum")
        main, *others = (loss(head.float(), y, reduction="sum") for head in output)
        return main + sum(0.3 * other for other in others)

    return total


LOSSES = {"cross-entropy": _summed(functional.cross_entropy), "nll": _summed(functional.nll_loss)}


OPTIMIZERS: dict[str, Callable[[nn.Module, Any, Flags], torch.optim.Optimizer]] = {
    "sgd": lambda model, recipe, flags: torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=flags.fused
    ),
    "adam": lambda model, recipe, flags: torch.optim.Adam(
        model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=flags.fused
    ),
}


def summary(outcome: Outcome) -> dict[str, Any]:
    """The results in a row: rates over all training time, quantiles over all steps of full batches."""
    last = outcome.history[-1] if outcome.history else {}
    kept = outcome.history[outcome.best_epoch - 1] if outcome.best_epoch else last
    tested = [row["test_accuracy"] for row in outcome.history]
    seconds = outcome.train_s
    return {
        "epochs_done": len(outcome.history),
        "train_loss": last.get("train_loss"),
        "train_accuracy": last.get("train_accuracy"),
        "validation_accuracy": kept.get("validation_accuracy"),
        "test_loss": kept.get("test_loss"),
        "test_accuracy": kept.get("test_accuracy"),
        "best_test_accuracy": max(tested, default=None),
        "best_epoch": tested.index(max(tested)) + 1 if tested else None,
        "examples_per_second": outcome.examples / seconds if seconds else None,
        "step_ms_p50": quantile(outcome.step_ms, 0.5),
        "step_ms_p90": quantile(outcome.step_ms, 0.9),
        "step_ms_p99": quantile(outcome.step_ms, 0.99),
        "steps": outcome.steps,
        "data_wait_share": outcome.wait_s / seconds if seconds else None,
        "train_s": seconds,
        "eval_s": outcome.eval_s,
        "prepare_s": outcome.prepare_s,
        "warmup_s": outcome.warmup_s,
        "compile_s": outcome.compile_s,
        "micro_batch": outcome.micro_batch or None,
        "resumed": outcome.resumed,
        "sample": outcome.sample or None,
        "history": outcome.history,
        **outcome.memory,
    }
