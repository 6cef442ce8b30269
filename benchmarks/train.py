"""The textbook training loop and archscope's, alternately in one process on one machine; print the ratios.

    python benchmarks/train.py [--rounds 3] [--threads 2] [--examples 60000] [--only lenet] [--calm 0.1] [--write]

Textbook, as `d2l.train_ch6` and most tutorials have it: a DataLoader with 0 or 2 workers, `Resize` and `ToTensor` of
every image on its own, two `.item()` a step. archscope: `archscope.bench.loop.train`, also with `--channels-last`.
Bare: the same step on one batch that lies ready, with nothing else, as fast as anything can be. All train the same
network from the same weights on the same real Fashion-MNIST images in the same order, and end with the same weights,
which is checked. What is compared is the wall clock of an epoch, workers' start included, evaluation not. Absolute
times mean little on shared machines, ratios within one run do; with --calm, runs in which other programs took more
than that share of the processors are measured again.
"""

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measured_page import write_section
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from archscope.bench.datasets.base import Data, Split
from archscope.bench.device import PLAIN, Flags
from archscope.bench.loop import Outcome, Plan, mixed, train
from archscope.bench.network import Network, built, fitted
from archscope.bench.recipes import Recipe, recipe_of

CPU = torch.device("cpu")
OURS, OURS_LAST, BARE = "archscope", "archscope, channels last", "bare step"
AIMS = {"textbook, 2 workers": 2.5, "textbook, 0 workers": 1.8, BARE: 0.95}  # the textbook's are of LeNet
SETS = {"lenet": ("d2l@epochs=1", 60_000), "resnet18-d2l": ("d2l@epochs=1@batch=64", 256)}


class Images(Dataset[Any]):
    """What torchvision's FashionMNIST does for every item: an array to a PIL image, then the transforms."""

    def __init__(self, split: Split, side: int) -> None:
        ways = [transforms.Resize(side)] if side != split.inputs.shape[-1] else []
        self.images, self.labels = split.inputs[:, 0], split.labels
        self.way = transforms.Compose([*ways, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.way(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def textbook(model: nn.Module, data: Data, recipe: Recipe, side: int, workers: int) -> tuple[float, dict[str, Any]]:
    """Seconds of one epoch."""
    assert recipe.lr is not None
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(mixed(0, 1))).tolist()
    batches = DataLoader(Images(data.train, side), recipe.batch, sampler=order, num_workers=workers)
    loss_of = nn.CrossEntropyLoss()
    total = right = 0.0
    model.train()
    begun = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad()
        output = model(x)
        loss = loss_of(output, y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        right += (output.argmax(1) == y).sum().item()
    return time.perf_counter() - begun, {}


def ours(
    model: nn.Module, data: Data, recipe: Recipe, network: Network, flags: Flags = PLAIN
) -> tuple[float, dict[str, Any]]:
    """Seconds of one epoch, and the share of them in which data were waited for."""
    outcome = Outcome()
    train(model, data, Plan(recipe, network.needs.shape, network.layout, CPU, flags, warmup=1), outcome)
    return outcome.train_s, {"data_wait_share": outcome.wait_s / outcome.train_s}


def bare(model: nn.Module, data: Data, recipe: Recipe, side: int) -> tuple[float, dict[str, Any]]:
    """Seconds of as many steps on one batch, the last as short as in the others."""
    assert recipe.lr is not None
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, fused=True)
    x, y = torch.rand(recipe.batch, 1, side, side), data.train.labels[: recipe.batch]
    steps, rest = divmod(len(data.train), recipe.batch)
    model.train()
    begun = time.perf_counter()
    for count in [recipe.batch] * steps + ([rest] if rest else []):
        nn.functional.cross_entropy(model(x[:count]), y[:count]).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - begun, {}


def used() -> tuple[float, float]:
    """Processor seconds since the start that the whole machine has used, and this process with its workers."""
    with open("/proc/stat", encoding="utf-8") as stream:
        user, nice, system, _, _, irq, softirq, *_ = map(int, stream.readline().split()[1:])
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), mine


def others(before: tuple[float, float], seconds: float) -> float:
    """The share of all processors that other programs took since `before`."""
    machine, mine = (now - then for now, then in zip(used(), before, strict=True))
    return max(machine - mine, 0.0) / (seconds * (os.cpu_count() or 1))


def measure(name: str, rounds: int, examples: int | None, calm: float) -> dict[str, Any]:
    """Seconds of each way in each round (the first is not counted), and whether all ended with the same weights."""
    text, usual = SETS[name]
    recipe = recipe_of(text, name)
    network, data = fitted(name, recipe, f"fashion-mnist@train={examples or usual}@test=8")
    start = built(network.spec, recipe, 0)
    side = network.needs.shape[-1]
    ways: dict[str, Callable[[nn.Module], tuple[float, dict[str, Any]]]] = {
        "textbook, 2 workers": lambda model: textbook(model, data, recipe, side, 2),
        "textbook, 0 workers": lambda model: textbook(model, data, recipe, side, 0),
        OURS: lambda model: ours(model, data, recipe, network),
        OURS_LAST: lambda model: ours(model, data, recipe, network, Flags(channels_last=True)),
        BARE: lambda model: bare(model, data, recipe, side),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    share: list[float] = []
    ended: dict[str, dict[str, torch.Tensor]] = {}
    taken = 0.0
    for turn in range(4 * rounds + 1):
        for way in list(ways) if turn % 2 else list(ways)[::-1]:  # A B C D, D C B A
            if len(times[way]) == rounds:
                continue
            model, before, begun = copy.deepcopy(start), used(), time.perf_counter()
            seconds, more = ways[way](model)
            ended[way] = model.state_dict()
            busy = others(before, time.perf_counter() - begun)
            print(f"{name}, {way}: {seconds:.2f} s, others {busy:.0%}", file=sys.stderr, flush=True)
            if turn and busy <= calm:
                times[way].append(seconds)
                taken = max(taken, busy)
                share += [more["data_wait_share"]] if way == OURS else []
    if not all(times.values()):
        raise SystemExit("the machine was never calm enough: try later, or a larger --calm")
    apart = max(
        float((ended[OURS][key] - value).abs().max() / (1e-3 + value.abs().max()))
        for key, value in ended["textbook, 0 workers"].items()
        if value.is_floating_point()
    )
    return {
        "model": name, "recipe": recipe.text, "examples": len(data.train), "batch": recipe.batch, "side": side,
        "seconds": {way: statistics.median(each) for way, each in times.items()}, "rounds": times,
        "data_wait_share": statistics.median(share), "weights_apart": apart,
        "others": taken, "counted": min(map(len, times.values())),
    }  # fmt: skip


def report(measured: list[dict[str, Any]]) -> str:
    """A Markdown table of rates and ratios."""
    lines = [
        "| network | way | examples/s | archscope is | with `--channels-last` | aim |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    for row in measured:
        plain, last = row["seconds"][OURS], row["seconds"][OURS_LAST]
        for way, seconds in row["seconds"].items():
            aim = f"≥ {AIMS[way]}×" if way in AIMS and (row["model"] == "lenet" or way == BARE) else ""
            ratios = ["", ""] if way in (OURS, OURS_LAST) else [f"{seconds / each:.2f}×" for each in (plain, last)]
            cells = [f"{row['model']} at {row['side']}", way, f"{row['examples'] / seconds:,.0f}", *ratios, aim]
            lines.append(f"| {' | '.join(cells)} |")
    said = [
        f"{row['model']}: {row['data_wait_share']:.1%} of the time waiting for data (aim: at most 3 %), final weights "
        f"{row['weights_apart']:.0e} apart"
        for row in measured
    ]
    return "\n".join([*lines, "", "; ".join(said) + "."])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--examples", type=int, help="of one epoch; the default differs by network")
    parser.add_argument("--calm", type=float, default=1.0, help="the share that other programs may take")
    parser.add_argument("--only", choices=list(SETS))
    parser.add_argument("--json", type=Path, help="also write every figure to a file")
    parser.add_argument("--write", action="store_true", help="also write the table into docs/explanation/measured.md")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    measured = [
        measure(name, asked.rounds, asked.examples, asked.calm) for name in ([asked.only] if asked.only else SETS)
    ]
    batches = ", ".join(f"{row['examples']:,} images in batches of {row['batch']}" for row in measured)
    text = report(measured)
    counted, taken = min(row["counted"] for row in measured), max(row["others"] for row in measured)
    text += (
        f"\n\nMedian of {counted} alternating rounds of one epoch in one process, fp32 on a CPU with "
        f"{torch.get_num_threads()} threads ({batches}); torch {torch.__version__}; other programs took at most "
        f"{taken:.0%} of the processors."
    )
    print(text)
    if asked.write:
        write_section("train", text)
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
