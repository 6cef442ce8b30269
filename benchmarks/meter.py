"""What `archscope.Meter` adds to a training loop: steps with and without it, one after the other, in changing order.

    python benchmarks/meter.py                     LeNet at batch 64, MobileNetV2 at batch 4
    python benchmarks/meter.py resnet18 --batch 8 --steps 100

One line of JSON a model: milliseconds of a step (median), microseconds that the meter adds (the median of the
differences of neighbouring steps, and the time of its call alone), and both as shares of a step.
"""

import argparse
import json
import statistics
import time
from typing import Any


def measured(name: str, batch: int, pairs: int) -> dict[str, Any]:
    import torch

    import archscope
    from archscope.peers.cpu_step import materialise, real

    torch.set_num_threads(1)
    model, inputs = archscope.load(name, batch=batch)
    materialise(model)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-0.01, 0.01)
    images = real(inputs)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    meter = archscope.Meter(model.train(), images, device="cpu", peak=1e12)

    def step(metered: bool) -> float:
        began = time.perf_counter()
        output = model(*images)
        (output if isinstance(output, torch.Tensor) else output[0]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if metered:
            meter.step()
        return time.perf_counter() - began

    for _ in range(5):
        step(True)
    plain, more = [], []
    for turn in range(pairs):
        first = step(bool(turn % 2))
        second = step(not turn % 2)
        without, with_it = (second, first) if turn % 2 else (first, second)
        plain.append(without)
        more.append(with_it - without)
    began = time.perf_counter()
    for _ in range(10_000):
        meter.step()
    call = (time.perf_counter() - began) / 10_000
    each = statistics.median(plain)
    return {
        "model": name, "batch": batch, "steps": 2 * pairs, "step_ms": round(each * 1e3, 3),
        "added_us": round(statistics.median(more) * 1e6, 1), "call_us": round(call * 1e6, 2),
        "added_share": round(statistics.median(more) / each, 5), "call_share": round(call / each, 5),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200, help="pairs of steps")
    given = parser.parse_args()
    for name, batch in [(name, given.batch) for name in given.models] or [("lenet", 64), ("mobilenet-v2", 4)]:
        print(json.dumps(measured(name, batch, given.steps if name == "lenet" or given.models else 20)), flush=True)


if __name__ == "__main__":
    main()
