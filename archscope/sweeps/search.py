"""Search a space of architectures: sample its points, keep those that meet conditions, the best of them first.

A space is defined in a user's file, beside the function that builds a model of it:

    space = {"width": [0.25, 0.5, 1.0], "depth": range(1, 9), "kernel": [3, 5, 7]}

    def build(width, depth, kernel): ...                 # returns an nn.Module, or: build = "mobilenet-v1"

or is a function, which draws the arguments with the random numbers that it is given:

    def space(rng):
        return {"widths": [rng.choice([16, 32, 64]) for _ in range(rng.randint(2, 6))]}

Trial i of a seed is always the same point, whatever is asked for besides. A dict is sampled without a point twice.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from archscope.analysis.metrics import STEP_METRICS
from archscope.core.errors import SpecError, TraceError
from archscope.core.table import did_you_mean
from archscope.sources.inputs import Text
from archscope.sources.spec import Spec, parse
from archscope.sweeps.conditions import Condition
from archscope.sweeps.factory import SweepModel
from archscope.sweeps.grid import Grid, columns, grid_of, key_of
from archscope.sweeps.run import Record, records
from archscope.sweeps.store import Store, kept, signature

BUILD = "build"  # what builds a model, beside the space


@dataclass(frozen=True)
class Space:
    """What is searched. grid: of a dict. draw: of a function, random numbers -> a point."""

    name: str
    model: Spec
    grid: Grid | None
    draw: Callable[..., Any] | None
    code: str


class Trials(Sequence[dict[str, Any]]):
    """The points that a seed draws from a space, by number."""

    def __init__(self, space: Space, trials: int, seed: int = 0) -> None:
        self.space, self.seed = space, seed
        self.length = trials if space.grid is None else min(trials, len(space.grid))
        self.signature = f"{space.name}, seed {seed}, {self.length} trials, {space.code}"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not 0 <= index < self.length:
            raise IndexError(index)
        if self.space.grid is not None:
            return self.space.grid[shuffled(index, len(self.space.grid), self.seed)]
        assert self.space.draw is not None
        try:
            point = self.space.draw(random.Random(f"{self.seed}/{index}"))
        except Exception as error:
            raise TraceError(f"{self.space.name} fails at trial {index}: {type(error).__name__}: {error}") from error
        if not isinstance(point, Mapping):
            raise SpecError(f"{self.space.name} returned {point!r}: return a dict of arguments")
        return dict(point)


def shuffled(index: int, n: int, seed: int) -> int:
    """The place of a number below n in a permutation of all of them, of which nothing is stored.

    A Feistel network of four rounds on the next power of 4, walked until it is below n (Black and Rogaway: Ciphers with
    arbitrary finite domains. CT-RSA 2002, section 4).
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            mixed = int.from_bytes(sha256(f"{seed}/{turn}/{right}".encode()).digest()[:8], "big")
            left, right = right, left ^ (mixed & mask)
        index = left << half | right
        if index < n:
            return index


MISSING = "write a dict of values, such as {} = {{'width': [0.5, 1.0]}}"


def space_of(text: str) -> Space:
    """`nets.py:space`. Raises SpecError for what is no space, or has nothing beside it that builds a model."""
    from archscope.sources.kinds.file import module_at

    path, colon, name = text.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise SpecError(f"{text!r} names no space: write FILE.py:NAME of a dict of values or a function of rng")
    holder = vars(module_at(path))
    if name not in holder:
        spaces = [key for key, value in holder.items() if isinstance(value, Mapping) and not key.startswith("_")]
        raise SpecError(f"{path} has no {name!r}; {did_you_mean(name, [*spaces, *holder]) or MISSING.format(name)}")
    found = holder[name]
    if BUILD not in holder:
        raise SpecError(f"{path} has no {BUILD!r}: write def {BUILD}(…) beside {name}, or {BUILD} = 'mobilenet-v1'")
    model = parse(holder[BUILD]) if isinstance(holder[BUILD], str) else parse(f"{path}:{BUILD}")
    code = sha256(Path(path).expanduser().read_bytes()).hexdigest()
    if isinstance(found, Mapping):
        for key, values in found.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise SpecError(f"{text}: {key} has {values!r}, not several values: write a list or a range")
        return Space(text, model, grid_of(found), None, code)
    if callable(found):
        return Space(text, model, None, found, code)
    raise SpecError(f"{text} is a {type(found).__name__}: write a dict of values or a function of rng")


# -------------------------------------------------------------------------------------------------------- search


class Search:
    """Runs trials, and keeps counts and the best records: memory does not grow with the trials."""

    def __init__(
        self,
        space: Space,
        trials: int,
        seed: int = 0,
        where: str | None = None,
        best: str | None = None,
        top: int = 10,
        input: Text = None,
        batch: int | None = None,
        train: bool = False,
        step: Mapping[str, Any] | None = None,
    ) -> None:
        self.trials = Trials(space, trials, seed)
        self.where = Condition(where) if where else None
        self.best = Condition(best, "--best") if best else None
        asked = [name for condition in (self.where, self.best) if condition for name in condition.names]
        if step is None and any(name in STEP_METRICS for name in asked):
            step = {}
        self.subject = SweepModel(space.model, None, input, batch, train, step)
        self.top, self.evaluated, self.met = top, 0, 0
        self.failures: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self._heap: list[tuple[float, int, Record]] = []
        arguments = [key_of(name) for name in self.trials[0]] if len(self.trials) else []
        self.arguments = [name for name in arguments if name != "side"]
        self.columns = ["trial", *arguments, *self.subject.totals]
        for condition in filter(None, (self.where, self.best)):
            condition.check(self.columns)

    def run(self, jobs: int = 1, scheduler: str | None = None, output: str | None = None) -> Iterator[Record]:
        """Each record that meets the conditions, as it comes. output: a file for them, resumed after a kill."""
        store = None
        first = 0
        if output is not None:
            about = signature(self.subject, self.trials) | {"where": self.where and self.where.text}
            store = Store(output, about, self._place)
            for record in store.done():
                first = record["trial"] + 1
                self.see(record)
                yield record
        self.evaluated = first
        points = (self.trials[i] for i in range(first, len(self.trials)))
        numbered = self._numbered(records(self.subject, points, jobs, scheduler), first)
        if store is None:
            yield from filter(self.see, numbered)
            return
        yield from kept(store, filter(self.see, numbered))
        store.finish()

    def _place(self, number: int, record: Record, before: Record | None) -> Mapping[str, Any]:
        """What the record of a trial has; trials that do not meet the conditions are left out."""
        trial = record["trial"]
        if type(trial) is not int or not (-1 if before is None else before["trial"]) < trial < len(self.trials):
            raise ValueError(f"there is no trial {trial} here")
        return {"trial": trial, **columns(self.trials[trial])}

    def _numbered(self, found: Iterable[Record], first: int) -> Iterator[Record]:
        for trial, record in enumerate(found, first):
            self.evaluated = trial + 1
            yield {"trial": trial, **record}

    def see(self, record: Record) -> bool:
        """Whether a record meets the conditions; it is counted, and kept if it is among the best."""
        if record["error"] is not None:
            self.failures[record["error"]] += 1
            if len(self.failures) > 1000:
                self.failures = Counter(dict(self.failures.most_common(100)))
            return False
        if self.where is not None:
            holds = bool(self.where(record))
            for text, part in self.where.parts:
                self.parts[text] += bool(part(record))
            if not holds:
                return False
        self.met += 1
        rank = self.best(record) if self.best is not None else record["trial"]
        if rank is not None:
            item = (-rank, -record["trial"], record)
            if len(self._heap) < self.top:
                heapq.heappush(self._heap, item)
            else:
                heapq.heappushpop(self._heap, item)
        return True

    def found(self) -> list[Record]:
        """The best of those that met the conditions, best first."""
        return [record for *_, record in sorted(self._heap, key=lambda item: item[:2], reverse=True)]
