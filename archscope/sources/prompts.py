"""What a language model of transformers reads beside the tokens of its text: a source for its encoder, or an image.

How many tokens an image takes is not computed from the configuration: the part of the model that reads it is run.
"""

import inspect
from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, NamedTuple

from archscope.core.errors import ArchscopeError, SpecError
from archscope.sources.inputs import Argument

SIDE = 448  # pixels of an image, where the configuration names no size: whole patches of 14 and of 16, merged by 2


class PromptRequest(NamedTuple):
    """What is asked for. source: tokens that an encoder reads; None: as many as the text has. image: pixels of a side,
    0 for text alone; None: the configured size."""

    source: int | None = None
    image: int | None = None


class PromptExtras(NamedTuple):
    """What a prompt has beside its text.

    named: further arguments of the forward. tokens: the name of the argument for the text. ids: the text, where its
    values count. note: what was assumed. encoder: whether an encoder reads a source.
    """

    named: Mapping[str, Any] = {}
    tokens: str = "input_ids"
    ids: Any = None
    note: str = ""
    encoder: bool = False


def beside(
    model: Any,
    tokens: int,
    batch: int,
    wanted: PromptRequest,
    given: tuple[Argument, ...],
    features: Callable[..., int],
) -> PromptExtras:
    """What a prompt of that model has beside its text.

    given: the inputs of the model's source. features: runs the part that reads an image -> rows that it makes.
    Raises SpecError for what the model does not read.
    """
    names = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and {"decoder_input_ids", "encoder_outputs"} <= {*names}:
        return _source(tokens, batch, wanted, given)
    if wanted.source is not None:
        raise SpecError(f"{type(model).__name__} has no encoder that reads a source: leave --source out")
    if "pixel_values" in names and wanted.image != 0:
        return _image(model, tokens, batch, wanted, features)
    if wanted.image == 0 and needs_image(model):
        raise SpecError(f"{type(model).__name__} reads an image with each text: leave --image 0 out")
    if wanted.image:
        raise SpecError(f"{type(model).__name__} reads no image: leave --image out")
    return PromptExtras()


def _source(tokens: int, batch: int, wanted: PromptRequest, given: tuple[Argument, ...]) -> PromptExtras:
    """The encoder's source: as many tokens as asked for, or the sound or image that the configuration has room for."""
    import torch

    if wanted.image:
        raise SpecError("an encoder reads the source: --source, not --image")
    main = given[0] if given else None
    if main is None or main.name in ("", "input_ids"):
        shape = (batch, tokens if wanted.source is None else wanted.source)
        named = {"input_ids": torch.empty(shape, dtype=torch.int64, device="meta")}
        return PromptExtras(named, "decoder_input_ids", encoder=True)
    if wanted.source is not None:
        raise SpecError(f"its encoder reads {main.name}, and no tokens: leave --source out")
    shape = (batch, *main.input.shape[1:])
    named = {main.name: torch.empty(shape, dtype=getattr(torch, main.input.dtype), device="meta")}
    sides = "×".join(map(str, shape[1:]))
    return PromptExtras(named, "decoder_input_ids", note=f"the encoder reads {main.name} of {sides}", encoder=True)


def encoder_output(rows: Any) -> Any:
    """What a later step is given instead of a source: the rows [batch, source, hidden] that the encoder made of it."""
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=rows)


# ------------------------------------------------------------------------------------------------------- images


def _image(model: Any, tokens: int, batch: int, wanted: PromptRequest, features: Callable[..., int]) -> PromptExtras:
    import torch

    config, name = model.config, type(model).__name__
    if "aspect_ratio_ids" in inspect.signature(model.forward).parameters:
        return _beside_the_text(model, tokens, batch, wanted.image)
    marker = next((m for key in ("image_token_id", "image_token_index") if type(m := _own(config, key)) is int), None)
    read = getattr(model, "get_image_features", None)
    try:
        if marker is None or read is None:
            raise SpecError("it names no token that stands for an image")
        pixels, side = _pixels(config, inspect.signature(read).parameters, batch, wanted.image)
        if "qformer_input_ids" in pixels:  # what looks at the image reads the question as well
            pixels["qformer_input_ids"] = _question(config, tokens, batch)
        rows = features(read, pixels)
    except ArchscopeError as error:
        if wanted.image or needs_image(model):
            size = f" of {wanted.image} pixels" if wanted.image else ""
            raise SpecError(f"{name} cannot be given an image{size}: {error}") from error
        return text_alone(error)
    taken = rows // batch
    start = _own(config, "vision_start_token_id")
    if tokens < taken + 1:
        raise SpecError(f"the image takes {taken:,} tokens of the text: --context {taken + 1} or more, or --image 0")
    ids = torch.full((batch, tokens), next(i for i in range(3) if i not in (marker, start)))
    ids[:, 0] = start if type(start) is int else ids[:, 0]
    ids[:, 1 : taken + 1] = marker
    names = inspect.signature(model.forward).parameters
    for kind in ("mm_token_type_ids", "token_type_ids"):
        if kind in names:
            pixels = {**pixels, kind: (ids == marker).long()}
    note = f"{taken:,} of the tokens are an image of {side}×{side} pixels"
    if "token_type_ids" in names:
        note += "; they see one another, and the causal figure counts them as text"
    return PromptExtras(pixels, ids=ids, note=note)


def _beside_the_text(model: Any, tokens: int, batch: int, asked: int | None) -> PromptExtras:
    """Mllama: the image is no part of the text, some layers attend to it. Its tiles are padded to as many as there may
    be, and all of them are read."""
    import torch

    vision = model.config.vision_config
    side, tiles = vision.image_size, vision.max_num_tiles
    if asked and asked > side:
        raise SpecError(f"{type(model).__name__} is given one tile here: --image {side} or less")
    named = {
        "pixel_values": torch.empty(batch, 1, tiles, vision.num_channels, side, side, device="meta"),
        "aspect_ratio_ids": torch.ones(batch, 1, dtype=torch.int64),
        "aspect_ratio_mask": (torch.arange(tiles) < 1).long().expand(batch, 1, tiles),
        "cross_attention_mask": (torch.arange(tiles) < 1).long().expand(batch, tokens, 1, tiles),
    }
    size = f"{asked or side}×{asked or side} pixels"
    return PromptExtras(named, note=f"beside the text is an image of {size}, padded to {tiles} tiles of {side}×{side}")


def rows_beside(model: Any, wanted: PromptRequest) -> int:
    """Rows of an image beside the text, which some layers attend to: those of all tiles."""
    if "aspect_ratio_ids" not in inspect.signature(model.forward).parameters or wanted.image == 0:
        return 0
    return model.config.vision_config.max_num_tiles * model.model.vision_model.num_patches


def needs_image(model: Any) -> bool:
    """Whether each forward wants an image, so that what continues the text is a language model inside."""
    pixels = inspect.signature(model.forward).parameters.get("pixel_values")
    return pixels is not None and pixels.default is pixels.empty and hasattr(model, "language_model")


def _question(config: Any, tokens: int, batch: int) -> Any:
    """The text without its image, as far as the positions of a Q-Former reach."""
    import torch

    words = max(tokens - config.num_query_tokens, 1)
    return torch.empty(batch, min(words, config.qformer_config.max_position_embeddings), dtype=torch.int64,
                       device="meta")  # fmt: skip


def text_alone(error: ArchscopeError) -> PromptExtras:
    """A prompt without the image that a model could not be given."""
    why = str(error).partition("\n")[0].partition(", at /")[0]
    return PromptExtras(note=f"its figures are those of text alone: archscope cannot give it an image ({why})")


def _own(config: Any, key: str) -> Any:
    return getattr(config, key, None)


_OTHER_FORMS = ("spatial_shapes", "image_token_pooling", "num_local_patches", "image_grid_hw", "image_grids", "args")
# tokens of an image, from which the processor of Gemma 4 lets one choose; 280 is usual
_SOFT_TOKENS = (70, 140, 280, 560, 1120)


def _pixels(config: Any, wants: Mapping[str, Any], batch: int, asked: int | None) -> tuple[dict[str, Any], int]:
    """The arguments that hold one image for each text, and its side. Raises SpecError for a form that is not known."""
    import torch

    vision = getattr(config, "vision_config", None) or config
    size = getattr(vision, "image_size", None)
    size = size[0] if isinstance(size, list | tuple) and size else size
    side = asked or (size if type(size) is int and size > 0 else SIDE)
    channels = next((n for key in ("num_channels", "in_channels") if type(n := _own(vision, key)) is int), 3)
    if "image_grid_thw" in wants:
        patch, merge = _own(vision, "patch_size"), _own(vision, "spatial_merge_size") or 1
        if type(patch) is not int:
            raise SpecError("its configuration has no size of a patch")
        if asked and side % (patch * merge):
            raise SpecError(f"a side is a multiple of {patch * merge} pixels")
        n = max(side // (patch * merge), 1) * merge
        features = channels * (_own(vision, "temporal_patch_size") or 1) * patch * patch
        grid = torch.tensor([[1, n, n]] * batch)
        pixels = torch.empty(batch * n * n, features, device="meta")
        return {"pixel_values": pixels, "image_grid_thw": grid}, n * patch
    if "image_position_ids" in wants:
        if vision is config:
            raise SpecError("its configuration has no vision_config")
        return _padded(vision, channels, batch, asked)
    unknown = [key for key in _OTHER_FORMS if key in wants]
    if unknown or "pixel_values" not in wants:
        raise SpecError(f"it reads images by {unknown[0] if unknown else 'other arguments'}")
    if "pixel_attention_mask" in wants:  # one image of several that a text may have
        return {"pixel_values": torch.empty(batch, 1, channels, side, side, device="meta")}, side
    named: dict[str, Any] = {"pixel_values": torch.empty(batch, channels, side, side, device="meta")}
    if grids := getattr(config, "image_grid_pinpoints", None):
        tile = size if type(size) is int else SIDE
        named["pixel_values"] = torch.empty(batch, _tiles(grids, side, tile), channels, tile, tile, device="meta")
    if "qformer_input_ids" in wants:
        named["qformer_input_ids"] = None
    if "image_sizes" in wants:
        named["image_sizes"] = torch.tensor([[side, side]] * batch)
    return named, side


def _tiles(grids: Any, side: int, tile: int) -> int:
    """Tiles of a square image: those of the grid that suits it best, and the whole image once more as one."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution((side, side), grids)
    return 1 + -(-height // tile) * -(-width // tile)


def _padded(vision: Any, channels: int, batch: int, asked: int | None) -> tuple[dict[str, Any], int]:
    """Patches one by one, with the place of each: a square image fills what the number of its tokens lets it, and
    patches at (−1, −1) fill up. Raises SpecError for a side that the processor does not make."""
    import torch

    pool, patch = vision.pooling_kernel_size, vision.patch_size
    most = {isqrt(soft) * pool: soft * pool * pool for soft in _SOFT_TOKENS}
    side = asked or isqrt(280) * pool * patch
    if side % patch or side // patch not in most:
        raise SpecError(f"its processor makes square images of {', '.join(str(n * patch) for n in most)} pixels")
    n = side // patch
    places = [[x, y] for y in range(n) for x in range(n)] + [[-1, -1]] * (most[n] - n * n)
    pixels = torch.empty(batch, most[n], channels * patch * patch, device="meta")
    return {"pixel_values": pixels, "image_position_ids": torch.tensor([places] * batch)}, side
