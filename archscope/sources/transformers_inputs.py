"""The default inputs of a model of transformers, from the docstring of its forward and from its configuration.

A docstring says of each argument "`torch.Tensor` of shape `(batch_size, num_frames, num_channels, height, width)`". The
words are sides that the configuration knows. The arguments that a forward has no default for are given, its main one,
and those of `BESIDE`, which have a default and are needed all the same.
"""

import inspect
import re
from collections.abc import Callable
from math import prod
from typing import Any

from archscope.sources.inputs import Argument, Input

TOKENS = 128  # of a default text; what a model holds at most, where that is less
RATE = 16_000  # samples of a sound: a second
FRAMES = 3000  # of a spectrogram, where the configuration says nothing
GRID = 16  # patches of an image along each side, where they are given one by one
STEPS = 32  # of what is neither text, sound nor image

# arguments with a default that a forward needs all the same
BESIDE: dict[str, tuple[str, ...]] = {
    "AudioFlamingo3Encoder": ("input_features_mask",),
    "AutoformerModel": ("future_values", "future_time_features"),
    "Blip2QFormerModel": ("encoder_hidden_states",),
    "BrosModel": ("bbox",),
    "ClapModel": ("input_features", "is_longer"),
    "ClvpModelForConditionalGeneration": ("input_features",),
    "DecisionTransformerModel": ("states", "actions", "rewards", "returns_to_go", "timesteps"),
    "IdeficsModel": ("pixel_values", "image_attention_mask"),
    "InformerModel": ("future_values", "future_time_features"),
    "InstructBlipModel": ("input_ids",),
    "InstructBlipVideoModel": ("input_ids",),
    "Kosmos2Model": ("input_ids", "image_embeds_position_mask"),
    "LEDModel": ("attention_mask", "decoder_input_ids"),
    "LxmertModel": ("visual_feats", "visual_pos"),
    "MiniCPMOcrVisionModel": ("target_sizes",),
    "MiniCPMV4_7VisionModel": ("target_sizes",),
    "PeAudioVideoModel": ("pixel_values_videos", "input_values"),
    "PeAudioVideoEncoder": ("pixel_values_videos",),
    "Siglip2Model": ("pixel_values", "pixel_attention_mask", "spatial_shapes"),
    "SpeechT5Model": ("decoder_input_values",),
    "T5GemmaModel": ("attention_mask", "decoder_attention_mask"),
    "TimeSeriesTransformerModel": ("future_values", "future_time_features"),
    "TimesFm2_5Model": ("past_values_padding",),
    "UdopModel": ("bbox", "decoder_input_ids"),
    "VideoPrismVisionModel": ("pixel_values_videos",),
    "VoxtralRealtimeModel": ("input_features",),
}
# which hold as many positions as Whisper, and take frames before bins; and those which take bins before frames
BINS_LAST = {"Speech2TextModel", "UnivNetModel", "Wav2Vec2BertModel", "NeuCodecModel"}
BINS_LAST |= {"Xcodec2Model"}
BINS_FIRST = {"GlmAsrEncoder", "Qwen3ASREncoder", "ClvpModelForConditionalGeneration"}
BINS_FIRST |= {"VoxtralRealtimeModel", "VoxtralRealtimeEncoder"}
VIDEOS = {"VideoMAEModel", "VivitModel", "TimesformerModel", "XCLIPModel", "InstructBlipVideoModel"}  # as pixel_values
PAIRS = {"EfficientLoFTRModel", "LightGlueForKeypointMatching"}  # of images
CHANNELS = {"PeAudioModel", "PeAudioEncoder", "PeAudioVideoModel", "PeAudioVideoEncoder", "OmniASRAudioModel"}
CHANNELS |= {"OmniASRCTCModel"}  # whose sound has an axis for its channels, though it is not said
SIDES = {"DepthProModel": 1536, "TvpModel": 448, "LwDetrModel": 640, "RfDetrModel": 560, "PPOCRV6SmallDetModel": 640}
SIDES |= {"PeVideoModel": 336, "PeVideoEncoder": 336, "PeAudioVideoModel": 336, "PeAudioVideoEncoder": 336}
SIDES |= {"Sam2Model": 1024, "EdgeTamModel": 1024}
BINS = {"GraniteSpeech5ForCTC": 320, "GraniteSpeech5Encoder": 320, "Gemma4AudioModel": 128}  # not in the configuration
BINS |= {"Nemotron3_5TranscribeAudioModel": 128, "FunAsrNanoEncoder": 560, "NeuCodecModel": 160, "Xcodec2Model": 160}


def inputs_of(model: Any, config: Any) -> tuple[Argument, ...]:
    """The arguments of a forward. model: its class."""
    return ForwardSignature(model, config).inputs()


class ForwardSignature:
    """What is known of a forward: its class, its configuration, and what the docstring says of each argument."""

    def __init__(self, model: Any, config: Any) -> None:
        self.name, self.config = model.__name__, config
        main = getattr(model, "main_input_name", "input_ids")
        self.main: str = main if isinstance(main, str) else main[0]
        self.parameters = dict(inspect.signature(model.forward).parameters)
        self.parameters.pop("self", None)
        self.said = model.forward.__doc__ or ""

    def inputs(self) -> tuple[Argument, ...]:
        found = [given for name in self.wanted() if (given := self.one(name)) is not None]
        return tuple(found)

    def wanted(self) -> list[str]:
        """The arguments that are given, the main one first."""
        has = self.parameters
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [name for name, p in has.items() if p.default is p.empty and p.kind not in kinds]
        first = [self.main] if self.main in has or not needed else []
        text = getattr(self.config, "is_encoder_decoder", False) and "decoder_input_ids" in has
        beside = not any(hasattr(self.config, key) for key in ("image_token_id", "image_token_index"))
        more = ["decoder_input_ids"] if text else []
        if not text and beside and self.main == "input_ids" and "pixel_values" in has:
            more = ["pixel_values"]
        elif not text and beside and self.main == "pixel_values" and "input_ids" in has:
            more = ["input_ids"]
        return list(dict.fromkeys([*first, *needed, *more, *BESIDE.get(self.name, ())]))

    # ------------------------------------------------------------------------------------------ one argument

    def one(self, name: str) -> Argument | None:
        """An argument, None where nothing says its shape."""
        made = _OWN.get((self.name, name)) or _MAKERS.get(name)
        given = made(self) if made is not None else self.as_said(name)
        return None if given is None else given._replace(name=name)

    def as_said(self, name: str) -> Argument | None:
        words = self.shape(name)
        if words is None:
            return None
        sides = tuple(self.side(word) for word in words)
        dtype = "bool" if "BoolTensor" in self.kind(name) else "int64" if self.integers(name) else "float32"
        if "mask" in name:
            return _ones(sides, "int64" if dtype == "float32" else dtype)
        layout = "nt" if len(sides) == 2 and dtype != "float32" else _layout(sides)
        return Argument(Input(sides, dtype), layout, below=2 if dtype == "int64" else 0)

    def line(self, name: str) -> str:
        found = re.search(rf"^\s*{name} \((.*)\):?\s*$", self.said, re.MULTILINE)
        return found[1] if found else ""

    def kind(self, name: str) -> str:
        return self.line(name).partition("of shape")[0]

    def integers(self, name: str) -> bool:
        return bool(re.search("LongTensor|IntTensor", self.kind(name))) or name.endswith(("_ids", "ids"))

    def shape(self, name: str) -> list[str] | None:
        """`(batch_size, num_frames, 4)` as its words, None where nothing is said."""
        found = re.search(r"shape [`'\[(]+([^`'\])]*)", self.line(name))
        if found is None:
            return None
        return [word.strip() for word in found[1].split(",") if word.strip()]

    def side(self, word: str) -> int:
        """How long a side of that name is."""
        if word.isdecimal():
            return int(word)
        for pattern, length in _SIDES:
            if re.search(pattern, word):
                return length(self)
        return STEPS

    # ----------------------------------------------------------------------------------- the configuration

    def of(self, *keys: str, otherwise: int) -> int:
        """The first of these that the configuration, or that of its encoder, states as a whole number."""
        parts = ("audio_config", "vision_config", "encoder_config", "text_config")
        for config in (self.config, *(getattr(self.config, part, None) for part in parts)):
            for key in keys:
                value = getattr(config, key, None)
                if type(value) is int and value > 0:
                    return value
        return otherwise

    def tokens(self) -> int:
        return min(TOKENS, _limit(_text(self.config)))

    def image(self) -> tuple[int, int, int]:
        config = getattr(self.config, "vision_config", None) or self.config
        side = SIDES.get(self.name) or getattr(config, "image_size", None) or getattr(config, "crop_size", None)
        side = side or 224
        height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
        return (self.channels(), height, width)

    def channels(self) -> int:
        config = getattr(self.config, "vision_config", None) or self.config
        for key in ("num_channels", "in_channels", "in_chans"):
            if type(value := getattr(config, key, None)) is int and value > 0:
                return value
        return 3

    def frames(self) -> int:
        """Images of a video."""
        return self.of("num_frames", "frames_per_clip", "video_length", otherwise=8)

    def bins(self) -> int:
        if self.name in BINS:
            return BINS[self.name]
        keys = ("num_mel_bins", "feature_size", "input_feat_per_channel", "feature_projection_input_dim", "input_dim")
        return self.of(*keys, "num_bins", otherwise=80)

    def spectrogram_frames(self) -> int:
        if self.name == "FunAsrNanoEncoder":  # it holds 2048
            return 500
        if positions := self.of("max_source_positions", otherwise=0):
            return FRAMES if self.name in BINS_LAST else 2 * positions
        return FRAMES

    def patch(self) -> int:
        """Numbers of a patch that is given flat: channels, times, rows and columns."""
        side = self.of("patch_size", otherwise=14)
        return self.channels() * self.of("temporal_patch_size", "patch_temporal", otherwise=1) * side**2


# ------------------------------------------------------------------------------------------ arguments by name


def _tokens(of: ForwardSignature) -> Argument:
    return Argument(Input((1, of.tokens()), "int64"), "nt")


def _image(of: ForwardSignature) -> Argument:
    words = of.shape("pixel_values") or []
    if of.name in VIDEOS:
        return _video(of)
    if of.name in PAIRS:
        return Argument(Input((1, 2, *of.image())), "n?chw")
    if "grid_thw" in of.parameters or "spatial_shapes" in of.wanted():  # patches one by one
        batch = (1,) if "spatial_shapes" in of.parameters else ()
        return Argument(Input((*batch, GRID * GRID, of.patch())), "n??" if batch else "??")
    if len(words) == 5:
        return _video(of)
    return Argument(Input((1, *of.image())), "nchw")


def _video(of: ForwardSignature) -> Argument:
    channels, height, width = of.image()
    return Argument(Input((1, of.frames(), channels, height, width)), "n?chw")


def _sound(of: ForwardSignature) -> Argument:
    words = of.shape("input_values") or []
    if of.name in CHANNELS:
        return Argument(Input((1, 1, RATE)), "nct")
    if len(words) == 3 and re.search("bins|feature", words[-1]):
        return Argument(Input((1, of.of("max_length", otherwise=1024), of.bins())), "nt?")
    if len(words) == 3:
        return Argument(Input((1, of.of("audio_channels", "num_channels", otherwise=1), RATE)), "nct")
    return Argument(Input((1, RATE)), "nt")


def _spectrogram(of: ForwardSignature) -> Argument:
    words = of.shape("input_features") or ["", "", "feature_dim"]
    if len(words) == 2:
        words = ["", "", "feature_dim"]
    bins_first = re.search("feature|bins", words[1]) is not None and "sequence" not in words[1]
    whisper = of.of("max_source_positions", otherwise=0) > 0
    if of.name in BINS_FIRST or ((bins_first or whisper) and of.name not in BINS_LAST):
        return Argument(Input((1, of.bins(), of.spectrogram_frames())), "nct")
    return Argument(Input((1, of.spectrogram_frames(), of.bins())), "nt?")


def _grid(of: ForwardSignature) -> Argument:
    return _values([[1, GRID, GRID]])


def _patches(of: ForwardSignature) -> Argument | None:
    """Of a tower of vision that gets its patches one by one; else what the docstring says."""
    if "grid_thw" in of.parameters:
        return Argument(Input((GRID * GRID, of.patch())), "??")
    return of.as_said("hidden_states")


def _boxes(of: ForwardSignature) -> Argument:
    corners = 8 if of.name.startswith("Bros") else 4
    return Argument(
        Input((1, of.tokens(), corners), "float32" if corners == 8 else "int64"),
        "nt?",
        below=1000 if corners == 4 else 0,
    )


def _sizes(of: ForwardSignature) -> Argument:
    side = of.image()[1] // of.of("patch_size", otherwise=14) if "target_sizes" in of.parameters else GRID
    return _values([[side, side]])


def _vectors(key: str) -> Callable[[ForwardSignature], Argument]:
    """A text of vectors, as long as the configuration says."""
    return lambda of: Argument(Input((1, of.tokens(), of.of(key, otherwise=768))), "nt?")


def _series(of: ForwardSignature) -> int:
    """Steps of the past: those that are seen, and those that lags reach back to."""
    return of.of("context_length", otherwise=24) + max(getattr(of.config, "lags_sequence", None) or [0])


def _past(of: ForwardSignature) -> Argument:
    if not hasattr(of.config, "lags_sequence"):
        channels = (of.of("num_input_channels", otherwise=1),) if len(of.shape("past_values") or []) == 3 else ()
        return Argument(Input((1, of.of("context_length", otherwise=512), *channels)), "nt?"[: 2 + len(channels)])
    return Argument(Input((1, _series(of))), "nt")


def _times(steps: Callable[[ForwardSignature], int]) -> Callable[[ForwardSignature], Argument]:
    return lambda of: Argument(Input((1, steps(of), getattr(of.config, "num_time_features", 0))), "nt?")


def _ones(sides: tuple[int, ...], dtype: str) -> Argument:
    value: Any = dtype == "bool" or 1
    if prod(sides) > 1 << 14:
        return Argument(Input(sides, dtype), _layout(sides))
    for side in reversed(sides):
        value = [value] * side
    return Argument(Input(sides, dtype), "", value=(value,))


def _values(value: list[Any]) -> Argument:
    return Argument(Input((len(value), len(value[0])), "int64"), "", value=(value,))


def _layout(sides: tuple[int, ...]) -> str:
    return "nchw" if len(sides) == 4 else "n" + "?" * (len(sides) - 1)


_MAKERS: dict[str, Callable[[ForwardSignature], Argument | None]] = {
    "input_ids": _tokens,
    "decoder_input_ids": _tokens,
    "qformer_input_ids": _tokens,
    "pixel_values": _image,
    "pixel_values_videos": _video,
    "input_values": _sound,
    "input_features": _spectrogram,
    "grid_thw": _grid,
    "image_grid_thw": _grid,
    "hidden_states": _patches,
    "bbox": _boxes,
    "target_sizes": _sizes,
    "past_values": _past,
    "past_time_features": _times(_series),
    "future_time_features": _times(lambda of: of.of("prediction_length", otherwise=24)),
    "past_observed_mask": lambda of: _ones((1, _series(of)), "bool"),
    "freq": lambda of: _values([[0]]),
    "spatial_shapes": _sizes,
    "merge_sizes": lambda of: Argument(Input((1,), "int64"), "", value=([1],)),
}


def _half(of: ForwardSignature) -> Argument:
    """An image of which the model joins two, one above the other."""
    channels, height, width = of.image()
    return Argument(Input((1, channels, height // 2, width)), "nchw")


_OWN: dict[tuple[str, str], Callable[[ForwardSignature], Argument]] = {  # where neither name nor docstring tells
    ("DiaModel", "decoder_input_ids"): lambda of: Argument(Input((1, of.tokens(), 9), "int64"), "nt?"),
    ("KyutaiSpeechToTextModel", "input_ids"): lambda of: Argument(Input((1, of.tokens(), 33), "int64"), "nt?"),
    ("ClapModel", "input_features"): lambda of: Argument(
        Input((1, 1, 1001, of.of("num_mel_bins", otherwise=64))), "nc??"
    ),
    ("ClapModel", "is_longer"): lambda of: _ones((1, 1), "bool"),
    ("VoxtralRealtimeModel", "input_features"): lambda of: Argument(Input((1, of.bins(), 8 * of.tokens())), "nct"),
    ("IdeficsModel", "image_attention_mask"): lambda of: _ones((1, of.tokens(), 1), "int64"),
    ("IdeficsModel", "pixel_values"): lambda of: Argument(Input((1, 1, *of.image())), "n?chw"),
    ("OneFormerModel", "task_inputs"): lambda of: Argument(
        Input((1, of.of("task_seq_len", otherwise=77)), "float32"), "n?"
    ),
    ("SegGptModel", "pixel_values"): _half,
    ("SegGptModel", "prompt_pixel_values"): _half,
    ("SegGptModel", "prompt_masks"): _half,
    ("Xcodec2Model", "input_features"): lambda of: Argument(Input((1, 50, of.bins())), "nt?"),  # a second, as its sound
    ("PerceiverModel", "inputs"): _vectors("d_model"),
    ("SpeechT5Model", "input_values"): _vectors("hidden_size"),
    ("SpeechT5Model", "decoder_input_values"): _vectors("hidden_size"),
    ("Kimi_K25VisionModel", "pixel_values"): lambda of: Argument(Input((GRID * GRID, 3, 14, 14)), "????"),
    ("MuseSparkAudioModel", "input_values"): lambda of: Argument(Input((1, 8 * 1920)), "nt"),
    ("Siglip2Model", "pixel_attention_mask"): lambda of: _ones((1, GRID * GRID), "int64"),
    ("Siglip2VisionModel", "pixel_attention_mask"): lambda of: _ones((1, GRID * GRID), "int64"),
    ("Gemma3nAudioEncoder", "audio_mel"): lambda of: Argument(
        Input((1, 300, of.of("input_feat_size", otherwise=128))), "nt?"
    ),
    ("Gemma3nAudioEncoder", "audio_mel_mask"): lambda of: Argument(
        Input((1, 300), "bool"), "", value=([[False] * 300],)
    ),
    ("Gemma4VisionModel", "pixel_values"): lambda of: Argument(Input((1, 9 * GRID, of.patch())), "n??"),
    ("Gemma4VisionModel", "pixel_position_ids"): lambda of: Argument(
        Input((1, 9 * GRID, 2), "int64"), "", value=([[[at % 12, at // 12] for at in range(9 * GRID)]],)
    ),
    ("UdopModel", "bbox"): lambda of: Argument(Input((1, of.tokens(), 4)), "nt?"),
    ("VibeVoiceAcousticTokenizerEncoderModel", "hidden_states"): lambda of: Argument(Input((1, 1, RATE)), "nct"),
    ("VibeVoiceAcousticTokenizerDecoderModel", "hidden_states"): lambda of: Argument(
        Input((1, of.of("hidden_size", otherwise=64), STEPS)), "nct"
    ),
    ("Blip2QFormerModel", "encoder_hidden_states"): _vectors("encoder_hidden_size"),
    ("PI0Model", "action_embeds"): _vectors("hidden_size"),
}

_SIDES: list[tuple[str, Callable[[ForwardSignature], int]]] = [  # words of docstrings, the first that is found
    (r"batch|^bs$|num_images|num_videos|num_audios|total_classes", lambda of: 1),
    (r"audio_length|num_samples", lambda of: RATE),
    (r"padded_feature_length|feature_sequence", lambda of: of.spectrogram_frames()),
    (r"feature_dim|feature_size|mel_bins|num_banks", lambda of: of.bins()),
    (r"visual_feat_dim", lambda of: of.of("visual_feat_dim", otherwise=2048)),
    (r"visual_pos_dim", lambda of: of.of("visual_pos_dim", otherwise=4)),
    (r"state_dim", lambda of: of.of("state_dim", otherwise=17)),
    (r"act_dim", lambda of: of.of("act_dim", otherwise=4)),
    (r"num_frames", lambda of: of.frames()),
    (r"num_channels|in_channels", lambda of: of.channels()),
    (r"width", lambda of: of.image()[2]),
    (r"image_size|frame_size|height", lambda of: of.image()[1]),
    (r"num_input_channels|input_size", lambda of: of.of("num_input_channels", "input_size", otherwise=1)),
    (r"prediction_length", lambda of: of.of("prediction_length", otherwise=STEPS)),
    (r"hidden_size|^dim$", lambda of: of.of("hidden_size", "d_model", "dim", otherwise=768)),
    (r"target_sequence_length", lambda of: of.tokens()),
    (r"sequence_length|seq_len|seqlen|num_boxes", lambda of: of.of("context_length", otherwise=of.tokens())),
]


def _text(config: Any) -> Any:
    """The configuration of what reads a text; of several the first."""
    try:
        return config.get_text_config()
    except (AttributeError, ValueError):
        return getattr(config, "text_encoder", config)


def _limit(config: Any) -> int:
    """How many positions a model holds."""
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 0:
            return value
    return TOKENS
