"""Normalization: over batches, examples, groups of channels, features, neighbouring channels."""

from math import prod

from archscope.core.expression import product, symbol
from archscope.layers.formula import Config, Derived, Formula, Shapes, layer, require


def batch_norm(kind: str, axes: tuple[int, ...]) -> Formula:
    def norm(config: Config, shapes: Shapes) -> Derived:
        """A scale and a shift an element; four operations more where the statistics are those of this batch."""
        shape, c = shapes[0], symbol("c", config["num_features"])
        require(len(shape) in axes, f"takes {' or '.join(map(str, axes))} axes, gets {list(shape)}")
        at = 0 if kind == "instance" and len(shape) == axes[0] else 1  # one example, without its batch
        running = config.get("track_running_stats", True)
        if config["affine"] or running:
            require(shape[at] == c.value, f"takes {c.value} channels, gets {shape[at]}")
        if kind == "instance" and at and config["affine"]:
            require(shape[0] > 0, "learned weights need a batch that is not empty")
        if not running:  # the variance is that of this batch; a single value has none
            values = prod(shape[at + 1 :]) * (shape[0] if kind == "batch" else 1)
            require(values != 1, f"one value a channel has no variance: {list(shape)}")
        return Derived(
            (shape,),
            params=2 * c if config["affine"] else 0,
            buffers=2 * c + 1 if kind == "batch" and running else 0,
            operations=prod(shape) * (2 if running else 6),
            evaluation=True,
        )

    return norm


_IOFFE = "Ioffe, Szegedy, arXiv:1502.03167, algorithm 1: γ and β per channel (mean and variance are buffers)"
_ULYANOV = "Ulyanov et al., arXiv:1607.08022, equation 5: batch norm of each example alone"
for _n, _axes in ((1, (2, 3)), (2, (4,)), (3, (5,))):
    layer(f"BatchNorm{_n}d", source=_IOFFE)(batch_norm("batch", _axes))
    layer(f"InstanceNorm{_n}d", source=_ULYANOV)(batch_norm("instance", (_n + 1, _n + 2)))
layer("SyncBatchNorm", source=_IOFFE)(batch_norm("batch", (2, 3, 4, 5)))


def _normalized(config: Config, shapes: Shapes) -> tuple[int, ...]:
    wanted = tuple(config["normalized_shape"])
    require(bool(wanted) and shapes[0][-len(wanted) :] == wanted, f"normalises {list(wanted)}, gets {list(shapes[0])}")
    return wanted


@layer(
    "LayerNorm",
    source="Ba, Kiros, Hinton, arXiv:1607.06450, equation 4: a gain and a bias per normalised element",
    arguments=("normalized_shape", "elementwise_affine"),
    letters={"d": "side that is normalised"},
)
def layer_norm(config: Config, shapes: Shapes) -> Derived:
    d = product(*(symbol("d", side) for side in _normalized(config, shapes)))
    weights = 2 * d if config.get("bias", True) else 1 * d
    return Derived(
        shapes[:1], params=weights if config["elementwise_affine"] else 0, operations=5 * prod(shapes[0])
    )  # fmt: skip


@layer("LayerNorm2d", source="Ba, Kiros, Hinton, arXiv:1607.06450, equation 4, over the channels of [N, c, h, w]")
def layer_norm_2d(config: Config, shapes: Shapes) -> Derived | None:
    """torchvision's and timm's: a layer norm whose axis of channels is the second."""
    wanted = config.get("normalized_shape")
    if not isinstance(wanted, tuple) or len(wanted) != 1:
        return None
    c = symbol("c", wanted[0])
    require(len(shapes[0]) == 4 and shapes[0][1] == c.value, f"takes [N, {c.value}, h, w], gets {list(shapes[0])}")
    return Derived(shapes[:1], params=2 * c if config["elementwise_affine"] else 0, operations=5 * prod(shapes[0]))


@layer(
    "RMSNorm",
    source="Zhang, Sennrich, arXiv:1910.07467, equation 4: a gain per normalised element",
    letters={"d": "side that is normalised"},
)
def rms_norm(config: Config, shapes: Shapes) -> Derived:
    d = product(*(symbol("d", side) for side in _normalized(config, shapes)))
    return Derived(shapes[:1], params=d if config["elementwise_affine"] else 0, operations=4 * prod(shapes[0]))


@layer("GroupNorm", source="Wu, He, arXiv:1803.08494, equations 1 and 2: γ and β per channel")
def group_norm(config: Config, shapes: Shapes) -> Derived:
    c, groups, shape = symbol("c", config["num_channels"]), config["num_groups"], shapes[0]
    require(len(shape) > 1, f"takes [N, c, *], gets {list(shape)}")
    n, channels, *sides = shape
    require(channels == c.value or not config["affine"], f"takes {c.value} channels, gets {channels}")
    require(channels > 0 and channels % groups == 0, f"{channels} channels in {groups} groups")
    require(prod(sides) > 0, f"the sides are at least 1, get {sides}")
    require(n * channels // groups * prod(sides) != 1, f"one value a group has no variance: {list(shape)}")
    return Derived(shapes[:1], params=2 * c if config["affine"] else 0, operations=5 * prod(shape))


_KRIZHEVSKY = "Krizhevsky et al. (2012), section 3.3"


@layer("LocalResponseNorm", source=f"{_KRIZHEVSKY}: over neighbouring channels; nothing learned")
def response_norm(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) > 2, f"takes [N, c, *], gets {list(shapes[0])}")
    return Derived(shapes[:1])


@layer("CrossMapLRN2d", source=_KRIZHEVSKY)
def cross_map_norm(config: Config, shapes: Shapes) -> Derived:
    require(len(shapes[0]) == 4, f"takes 4 axes, gets {list(shapes[0])}")
    return Derived(shapes[:1])
