"""Recipes: how a network is trained, as frozen data with names.

    d2l                     as its source describes it for this network
    d2l@lr=0.5@epochs=3     the same with two fields changed; each row records that

`enter` registers a recipe; `each` holds the fields that its source gives for single networks. Does not import torch.
"""

import ast
import fnmatch
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from archscope.core.errors import SpecError
from archscope.core.registry import Registry
from archscope.core.table import Column, Table, did_you_mean, unknown
from archscope.sources.spec import written

CHOICES = {  # of the fields that are words
    "optimizer": ("sgd", "adam"),
    "init": ("pytorch", "xavier-uniform", "alexnet2012"),
    "loss": ("cross-entropy", "nll"),
    "keep": ("last", "best-validation"),
    "schedule": ("constant", "plateau"),
    "augment": ("none", "alexnet2012"),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a training besides the network, the data and the seed.

    lr: learning rate; None if the source gives none for this network. epochs: passes over the training set. batch:
    examples in a step, of all devices together. side: pixels of the square input, 0: the network's own. init: how the
    weights are initialised. loss: "nll" takes log-probabilities. mean, std: of the inputs after division by 255, in 0
    to 1. validation: share of the training set that is held out. keep: which weights are tested. schedule: "plateau"
    divides lr by 10 if the validation loss does not fall for two epochs. clip: largest norm of the gradient, 0: none.
    source: the publication. overridden: the fields that the user changed.
    """

    name: str
    source: str
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 10
    batch: int = 128
    side: int = 0
    init: str = "pytorch"
    loss: str = "cross-entropy"
    mean: float = 0.0
    std: float = 1.0
    validation: float = 0.0
    keep: str = "last"
    schedule: str = "constant"
    augment: str = "none"
    clip: float = 0.0
    overridden: tuple[str, ...] = field(default=())

    @property
    def text(self) -> str:
        """`d2l`, `d2l@lr=0.5`: as a user types it; runs with equal text are comparable."""
        return "@".join([self.name, *(f"{key}={written(getattr(self, key))}" for key in sorted(self.overridden))])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `from_dict` gives an equal recipe back."""
        return asdict(self) | {"overridden": list(self.overridden)}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Recipe":
        """The recipe of `to_dict`."""
        values: dict[str, Any] = {**body, "overridden": tuple(body["overridden"])}
        return cls(**values)


@dataclass(frozen=True)
class Entry:
    """A recipe and its fields for single networks: pattern of the name -> fields."""

    recipe: Recipe
    each: Mapping[str, Mapping[str, Any]]
    only: bool  # only for these networks, unless lr is given

    def of(self, model: str) -> Recipe:
        for pattern, own in self.each.items():
            if fnmatch.fnmatchcase(model, pattern):
                return replace(self.recipe, **own)
        return self.recipe


RECIPES: Registry[Entry] = Registry("recipe")


def enter(recipe: Recipe, each: Mapping[str, Mapping[str, Any]] | None = None, only: bool = False) -> None:
    """Register a recipe. Raises ValueError for a duplicate name and for an unknown word."""
    for key, words in CHOICES.items():
        if getattr(recipe, key) not in words:
            raise ValueError(unknown(key, getattr(recipe, key), words))
    RECIPES.add(recipe.name, Entry(recipe, each or {}, only))


enter(
    Recipe(
        "d2l",
        "Zhang et al., Dive into Deep Learning 0.17, d2l.train_ch6",
        init="xavier-uniform",
    ),
    {
        "lenet": {"lr": 0.9, "batch": 256, "side": 28},
        "lenet-bn": {"lr": 1.0, "batch": 256, "side": 28},
        "alexnet-d2l": {"lr": 0.01, "batch": 128, "side": 224},
        "vgg11-d2l": {"lr": 0.05, "batch": 128, "side": 224},
        "nin": {"lr": 0.1, "batch": 128, "side": 224},
        "googlenet-d2l": {"lr": 0.1, "batch": 128, "side": 96},
        "resnet18-d2l": {"lr": 0.05, "batch": 256, "side": 96},
        "densenet-d2l": {"lr": 0.1, "batch": 256, "side": 96},
        "mobilenet-v1-d2l": {"lr": 0.1, "batch": 256, "side": 96},
    },
    only=True,
)
enter(
    Recipe(
        "adam",
        "textbook exercises on Fashion-MNIST: Adam 0.001 (NiN 0.002), 3 to 5 epochs, batch 16 to 128",
        optimizer="adam",
        lr=0.001,
        epochs=5,
        batch=64,
    ),
    {"nin": {"lr": 0.002}},
)
enter(
    Recipe(
        "mnist",
        "textbook exercise on MNIST: SGD 0.01, momentum 0.5, NLL, 4:1 split, best validation model",
        lr=0.01,
        momentum=0.5,
        batch=64,
        loss="nll",
        mean=0.1307,
        std=0.3081,
        validation=0.2,
        keep="best-validation",
    ),
    {"basic-cnn": {"loss": "cross-entropy"}},
)
enter(
    Recipe(
        "alexnet2012",
        "Krizhevsky et al., NeurIPS 2012, sections 4 and 5",
        lr=0.01,
        momentum=0.9,
        weight_decay=0.0005,
        epochs=90,
        init="alexnet2012",
        validation=0.2,
        schedule="plateau",
        augment="alexnet2012",
    ),
)
enter(
    Recipe("hello", "the sequence exercise hello -> ohlol; the rates are archscope's own", lr=1.0, epochs=100, batch=1),
    {"char-rnn-embedding": {"optimizer": "adam", "lr": 0.05}},
)

# the recipe of a network if none is named: the first pattern that fits
USUAL = (
    ("char-rnn*", "hello"),
    ("mnist-cnn", "mnist"),
    ("basic-cnn", "mnist"),
    ("alexnet", "alexnet2012"),
    *((name, "d2l") for name in RECIPES["d2l"].each),
    ("*", "adam"),
)


def recipe_of(text: str, model: str, given: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe `NAME@key=value…` for a network (its name without arguments); "auto" takes the usual one.

    given: further fields, from other options. Raises SpecError for a wrong name, field or value, and if the source
    has no learning rate for this network and none is given.
    """
    name, *pairs = text.strip().split("@")
    if name == "auto":
        name = next(usual for pattern, usual in USUAL if fnmatch.fnmatchcase(model, pattern))
    if name not in RECIPES:
        raise SpecError(unknown("recipe", name, RECIPES))
    entry = RECIPES[name]
    recipe = entry.of(model)
    changed = {key: value for key, value in (given or {}).items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in OPEN:
            raise SpecError(f"a recipe has no field {key!r}: {did_you_mean(key, OPEN) or 'it has ' + ', '.join(OPEN)}")
        if not equals or not value:
            raise SpecError(
                f"{key} has no value in {text.strip()!r}; write {name}@{key}={written(getattr(recipe, key))}"
            )
        if key in changed and changed[key] is not None:
            raise SpecError(f"{key} is set twice: in {text.strip()!r} and by an option")
        changed[key] = _typed(key, value)
    differing = {key: value for key, value in changed.items() if value != getattr(recipe, key)}
    recipe = replace(recipe, **differing, overridden=tuple(sorted(differing)))
    if recipe.lr is None:
        raise SpecError(
            f"the recipe {name} says nothing of {model}; give a learning rate, {name}@lr=0.1, or take --recipe adam"
        )
    _check(recipe)
    return recipe


OPEN = [f.name for f in fields(Recipe) if f.name not in ("name", "source", "overridden")]
_KINDS = {f.name: f.type for f in fields(Recipe)}


def _typed(key: str, value: str) -> Any:
    """A value of the field's type."""
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise SpecError(unknown(key, value, CHOICES[key]))
        return value
    whole = _KINDS[key] is int
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        read = None
    if isinstance(read, bool) or not isinstance(read, int if whole else int | float):
        raise SpecError(f"{key} is {'a whole number' if whole else 'a number'}, not {value!r}")
    return read if whole else float(read)


_LEAST = {"epochs": 1, "batch": 1, "side": 0, "lr": 0, "momentum": 0, "weight_decay": 0, "validation": 0, "clip": 0}


def _check(recipe: Recipe) -> None:
    for key, least in _LEAST.items():
        if getattr(recipe, key) < least:
            raise SpecError(f"{key} is at least {least}, not {getattr(recipe, key)}")
    if recipe.std <= 0:
        raise SpecError(f"std is more than 0, not {recipe.std}")
    if recipe.validation >= 1:
        raise SpecError(f"validation is a share below 1, not {recipe.validation}")
    if not recipe.validation and "best-validation" == recipe.keep:
        raise SpecError("keep=best-validation needs a validation share, such as validation=0.2")
    if not recipe.validation and recipe.schedule == "plateau":
        raise SpecError("schedule=plateau needs a validation share, such as validation=0.2")


EMPTY = ("side", "validation", "momentum", "weight_decay", "clip")  # shown as empty if 0


def recipes_table() -> Table:
    """The recipes as a table: what `archscope bench --list` prints first."""
    rows = []
    for name, entry in RECIPES.items():
        recipe = entry.recipe
        for model, own in entry.each.items() or [("", {})]:
            rows.append(recipe.to_dict() | dict(own) | {"recipe": name, "model": model})
        if entry.each and not entry.only:
            rows.append(recipe.to_dict() | {"recipe": name, "model": "any other"})
    return Table(
        title="Recipes",
        columns=(
            Column("recipe", "Recipe"),
            Column("model", "Network"),
            Column("optimizer", "Optimiser"),
            Column("lr", "Rate", "count", priority=2),
            Column("momentum", "Momentum", "count", priority=4),
            Column("weight_decay", "Decay", "count", priority=5),
            Column("epochs", "Epochs", "count"),
            Column("batch", "Batch", "count", priority=1),
            Column("side", "Side", "count", priority=3),
            Column("init", "Init", priority=6),
            Column("loss", "Loss", priority=7),
            Column("validation", "Held out", "share", priority=8),
        ),
        hidden=tuple(Column(key, key) for key in ("keep", "schedule", "augment", "mean", "std", "clip", "source")),
        rows=tuple(row | {key: row[key] or None for key in EMPTY} for row in rows),
        notes=tuple(f"{name}: {entry.recipe.source}" for name, entry in RECIPES.items()),
        caption="Each field can be changed: --recipe d2l@lr=0.5@epochs=3. Side: empty for the network's own.",
    )
