"""`torchvision:resnet50`: every builder of torchvision, as its default weights were published, without the weights.

What a builder makes of `weights=None` is not always the published network: GoogLeNet has auxiliary heads then,
segmentation models have none, detectors have batch norm where frozen statistics belong. So the default weights are
named to the builder, and their loading is left out.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

from archscope.sources.inputs import Argument, Input
from archscope.sources.source import REGISTERED, SOURCES, Source, in_files

FRAMES = 16  # of a video, for which torchvision publishes its counts
IMAGE = 800  # side of an image given to a detector; it resizes to its own
FLOW = (1, 3, 512, 512)  # each of the two images of an optical flow


@SOURCES.register("torchvision")
class Torchvision(Source):
    help = "torchvision:NAME"
    order = 1
    upper_bound = True

    def names(self, pattern: str) -> Iterable[str]:
        return _models().list_models()

    def names_in_files(self) -> frozenset[str]:
        return in_files("torchvision", "models/**/*.py", REGISTERED)

    def build(self, name: str, arguments: dict[str, Any]) -> Any:
        return _build(name, arguments)

    def inputs(self, name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
        return _inputs(name, arguments)

    def published(self, name: str) -> Mapping[str, Any]:
        """Parameters, and MACs as printed (in units of 10⁶), of the default weights' metadata."""
        weights = _weights(name)
        if weights is None:
            return {}
        meta = weights.meta
        return {"params": meta.get("num_params"), "macs": round(meta["_ops"] * 1e9) if "_ops" in meta else None}

    def running(self, name: str) -> AbstractContextManager[Sequence[str]]:
        return _running(name)


def _models() -> Any:
    from archscope.tracing.compiler import imported_lightly

    with imported_lightly():
        import torchvision.models

    return torchvision.models


def _weights(name: str) -> Any:
    """The default weights of a builder, None where it has none."""
    known = _models().get_model_weights(name)
    return known.DEFAULT if len(known) else None


def _family(name: str) -> str:
    """classification, segmentation, detection, video, optical_flow or quantization."""
    parts = _models().get_model_builder(name).__module__.split(".")
    return parts[2] if len(parts) > 3 else "classification"


# ----------------------------------------------------------------------------------------------------- building


def _build(name: str, arguments: dict[str, Any]) -> Any:
    builder = _models().get_model_builder(name)
    weights = arguments.pop("weights", ...) if "weights" in (arguments := dict(arguments)) else _weights(name)
    if isinstance(weights, str):
        weights = _models().get_model_weights(name)[weights]
    if _family(name) == "quantization":
        weights = weights if arguments.get("quantize") else getattr(weights, "meta", {}).get("unquantized")
    with _unloaded(inspect.unwrap(builder).__globals__), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return builder(weights=weights, **arguments)


@contextmanager
def _unloaded(names: dict[str, Any]) -> Iterator[None]:
    """Nothing is downloaded or loaded, and what weights ask of a builder gives way to what the user asks.

    names: the globals of the builder's file.
    """
    from torch import nn
    from torchvision.models import WeightsEnum

    def yields(kwargs: dict[str, Any], param: str, new_value: Any) -> None:
        kwargs.setdefault(param, new_value)

    def chosen(param: str, actual: Any, expected: Any) -> Any:
        return expected if actual is None else actual

    patches: list[tuple[Any, str, Callable[..., Any]]] = [
        (WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: {}),
        (nn.Module, "load_state_dict", lambda self, *args, **kwargs: None),
    ]
    lenient = {"_ovewrite_named_param": yields, "_ovewrite_value_param": chosen}
    saved = [(owner, key, getattr(owner, key)) for owner, key, _ in patches]
    kept = {key: names[key] for key in lenient if key in names}
    for owner, key, replacement in patches:
        setattr(owner, key, replacement)
    names.update({key: lenient[key] for key in kept})
    try:
        yield
    finally:
        names.update(kept)
        for owner, key, original in saved:
            setattr(owner, key, original)


# ------------------------------------------------------------------------------------------------ ------ inputs


def _inputs(name: str, arguments: dict[str, Any]) -> tuple[Argument, ...]:
    """The input for which torchvision publishes the counts of the default weights."""
    family = _family(name)
    if family == "detection":
        return (Argument(Input((3, IMAGE, IMAGE)), "chw", listed=True),)
    if family == "optical_flow":
        return (Argument(Input(FLOW), "nchw"),) * 2
    weights = _weights(name)
    transforms = weights.transforms() if weights is not None else None
    sides = _pair(getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or 224)
    if isinstance(side := arguments.get("image_size"), int):
        sides = (side, side)
    if family == "video":
        return (Argument(Input((1, 3, FRAMES, *sides)), "ncthw"),)
    return (Argument(Input((1, 3, *sides)), "nchw"),)


def _pair(sides: Any) -> tuple[int, int]:
    values = [sides] if isinstance(sides, int) else list(sides)
    return (values[0], values[-1])


# ------------------------------------------------------------------------------------------------------ running


_LOOPS = {  # of detectors' last steps: what stands in for a loop over the boxes that were found, and what is left out
    "torchvision.ops.boxes.batched_nms": lambda boxes, scores, idxs, threshold: _nms(boxes, scores, threshold),
    "torchvision.models.detection.roi_heads.heatmaps_to_keypoints": lambda maps, rois: (
        maps.new_empty(len(rois), maps.shape[1], 3),
        maps.new_empty(len(rois), maps.shape[1]),
    ),
    "torchvision.models.detection.transform.paste_masks_in_image": lambda masks, boxes, shape, padding=1: (
        masks.new_empty(len(masks), 1, *shape)
    ),
}
_NOTE = (
    "suppression class by class, and drawing masks or keypoints at the size of the image, are left out of the record"
)


def _nms(boxes: Any, scores: Any, threshold: float) -> Any:
    import torch

    return torch.ops.torchvision.nms(boxes, scores, threshold)


@contextmanager
def _running(name: str) -> Iterator[Sequence[str]]:
    """Detectors end in loops over the boxes found, which multiply by no weight. At its upper bound such a loop would
    go over tens of thousands. They are left out, and a note of the record says so."""
    if _family(name) != "detection":
        yield ()
        return
    places = [(import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in _LOOPS]
    saved = [getattr(module, key) for module, key in places]
    for (module, key), replacement in zip(places, _LOOPS.values(), strict=True):
        setattr(module, key, replacement)
    try:
        yield (_NOTE,)
    finally:
        for (module, key), original in zip(places, saved, strict=True):
            setattr(module, key, original)
