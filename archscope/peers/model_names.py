"""The name that a paper prints -> the networks that it may stand for.

`ResNet-50` is two networks of the zoo, by where a block strides, and torchvision's. Each is a candidate, and the
figures decide. Names are compared by their letters and digits. The width, the resolution and the remarks of a table
are taken off first.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from archscope.core.errors import ArchscopeError
from archscope.core.table import did_you_mean
from archscope.sources.spec import parse
from archscope.zoo.catalogue import entries


class Candidate(NamedTuple):
    """One network that a name may stand for: as a user types it, and the side of the input that the name gives."""

    spec: str
    input: str = ""


_ALIASES = {  # other names for networks of the zoo; of several the likeliest first
    "alexnet": ("alexnet", "alexnet-owt", "alexnet-onegpu"),
    "caffenet": ("alexnet",),
    "inception": ("googlenet",),
    "inceptionv1": ("googlenet",),
    "lenet5": ("lenet",),
    "mobilenet": ("mobilenet-v1",),
    "networkinnetwork": ("nin",),
    "resnet50v1": ("resnet50",),
    "vgg": ("vgg16",),
    "vgga": ("vgg11",),
    "vggd": ("vgg16",),
    "vgge": ("vgg19",),
}
_ALIASES_TORCHVISION = {
    "squeezenet": "squeezenet1_0",
    "squeezenetv10": "squeezenet1_0",
    "squeezenetv11": "squeezenet1_1",
}
_SIZES = {"tiny": "t", "small": "s", "base": "b", "large": "l", "huge": "h"}


def candidates(printed: str) -> list[Candidate]:
    """The networks of the zoo that a printed name may stand for, the likeliest first; empty where there is none."""
    if spec := _typed(printed.strip()):  # upper case too: transformers:MixtralForCausalLM
        return [Candidate(spec[0], "")]
    for text, side in _shortened(printed):
        key = _key(text).replace("densenetbc", "densenet")
        if found := _typed(text) or _ALIASES.get(key) or _zoo().get(key):
            return [Candidate(spec, side) for spec in found]
        if known := _mobilenet(text):
            return [known._replace(input=known.input or side)]
    return []


def in_torchvision(printed: str) -> list[Candidate]:
    """The networks of torchvision that a printed name may stand for; empty where it is not installed."""
    try:
        import torchvision.models
    except ImportError:
        return []
    listed = torchvision.models.list_models(module=torchvision.models)
    names = {_key(name): name for name in listed} | _ALIASES_TORCHVISION
    for text, side in _shortened(printed):
        for key in _torchvision_keys(text):
            if key in names:
                return [Candidate(f"torchvision:{names[key]}", side)]
    return []


def nearest(printed: str) -> str:
    """`did you mean resnet50?` for a name that is not known, empty where nothing is near."""
    return did_you_mean(_plain(printed).replace(" ", "-"), entries())


# ------------------------------------------------------------------------------------------------------- the names


def _plain(text: str) -> str:
    """Lower case, without references and signs of footnotes."""
    text = unicodedata.normalize("NFKC", text).lower().replace("×", "x")
    text = re.sub(r"\[\d+(?:\s*[,–-]\s*\d+)*\]|\((?:ours|baseline|paper|our impl[a-z.]*)\)|[*†‡§¶$\\{}]", " ", text)
    return " ".join(text.split())


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text)


@functools.cache
def _zoo() -> dict[str, tuple[str, ...]]:
    """Networks by the letters and digits of their names; `resnet50` may be `resnet50-v1.5` too."""
    names = entries()
    return {_key(name): tuple(one for one in (name, f"{name}-v1.5") if one in names) for name in names}


def _typed(text: str) -> tuple[str, ...]:
    """A name as archscope takes it: `mobilenet-v1@width=0.5`, `torchvision:resnet50`, `folder/config.json`."""
    try:
        return (parse(text).text,) if re.search("[@:]|/config[.]json$", text) else ()
    except ArchscopeError:
        return ()


def _shortened(printed: str) -> Iterator[tuple[str, str]]:
    """The name, then with less and less: without its remarks, without the side of its input, which goes with it."""
    text, side = _plain(printed), ""
    while text:
        yield text, side
        shorter, read = _without_remarks(text), ""
        if _key(shorter) == _key(text):
            shorter, read = _without_side(text)
        if _key(shorter) == _key(text):
            return
        text, side = shorter, side or read


def _without_remarks(text: str) -> str:
    """Without what stands in brackets, and without the family's constants: `densenet-121 (k=32)`."""
    named = r"\d+\s*x\s*\d+d|/\d+|bn|\d\.\d"  # in brackets, and a part of the name
    text = re.sub(r"\(([^)]*)\)", lambda m: f" {m[1]} " if re.search(named, m[1]) else " ", text)
    remarks = r"\bk\s*=\s*\d+\b|\bw/o\b.*|\bwithout\b.*|\bplain\b|\boriginal\b|\btorchvision\b|\bpytorch\b"
    return " ".join(re.sub(remarks, " ", text).split())


def _without_side(text: str) -> tuple[str, str]:
    """`mobilenet-224`, `vit-b/16 @ 384`, `swin-b ↑384`: the name and the side of the input."""
    found = re.fullmatch(r"(.*?)[\s_@↑,(-]+(\d{2,3})(?:\s*(?:px|²|x\s*\2))?\)?", text)
    if found is None or int(found[2]) < 90:
        return text, ""
    return found[1].strip(" -_@↑"), found[2]


def _mobilenet(text: str) -> Candidate | None:
    """A MobileNet with its width, and perhaps its resolution: `0.5 MobileNet-160`, `MobileNetV2 (1.4)`."""
    found = re.search(r"(?:mobile\s*-?_?net[\s_-]*(?:v\s*([123]))?|^v([23]))[\s_-]*(large|small)?", text)
    if found is None:
        return None
    version, size = found[1] or found[2] or "1", found[3]
    rest = f"{text[: found.start()]} {text[found.end() :]}"
    widths = re.findall(r"(?<![\d.])([01](?:\.\d+))(?![\d.])", rest)
    sides = re.findall(r"(?<![\d.])(96|128|160|192|224)(?![\d.])", rest)
    left = re.sub(r"[01]\.\d+|96|128|160|192|224|width|alpha|α|ρ|[x()=,_/@ -]", "", rest)
    if left or len(widths) > 1 or len(sides) > 1 or (version == "3") != bool(size) or not (widths or sides or size):
        return None
    width = f"@width={widths[0]}" if widths and float(widths[0]) != 1 else ""
    return Candidate(f"mobilenet-v{version}{f'-{size}' if size else ''}{width}", sides[0] if sides else "")


def _torchvision_keys(text: str) -> Iterator[str]:
    """The keys under which torchvision may have a network."""
    letters = {letter: word for word, letter in _SIZES.items()}
    yield _key(text)
    yield _key(re.sub(rf"\b({'|'.join(_SIZES)})\b", lambda m: _SIZES[m[1]], text))
    yield _key(re.sub(r"(?<=convnext)[\s_-]*([tsbl])\b", lambda m: letters[m[1]], text))
    yield _key(text.replace("wrn", "wide_resnet"))
    yield _key(re.sub(r"\bnet\b", "", text))
    found = re.search(r"(?<![\d.])([0-2])(?:\.(\d))?\s*x?\)?$", text)  # shufflenet v2 1.0x -> shufflenetv2x10
    if found and "shuffle" in text:
        name = text[: found.start()].rstrip(" x(_-")
        yield _key(name if "v2" in name else name + "v2") + f"x{found[1]}{found[2] or 0}"
