"""The name that a paper prints -> what archscope calls the network.

`ResNet-50` is two networks of the zoo, by where a block strides, and torchvision's: each is a candidate, and the
figures say which one is meant. Names are compared by their letters and digits; a width, a resolution and the remarks
of a table are read off first.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from archscope.core.errors import ArchscopeError
from archscope.core.table import did_you_mean
from archscope.sources.spec import parse
from archscope.zoo.catalogue import entries


class Known(NamedTuple):
    """One network that a name may stand for: as a user types it, and the side of the input that the name gives."""

    spec: str
    input: str = ""


# what other names there are for networks of the zoo; the first is the one that a paper means
ALSO = {
    "alexnet": ("alexnet", "alexnet-owt", "alexnet-onegpu"),
    "caffenet": ("alexnet",),
    "vgga": ("vgg11",),
    "vggd": ("vgg16",),
    "vgge": ("vgg19",),
    "vgg": ("vgg16",),
    "inceptionv1": ("googlenet",),
    "inception": ("googlenet",),
    "mobilenet": ("mobilenet-v1",),
    "mobilenetv1": ("mobilenet-v1",),
    "lenet5": ("lenet",),
    "resnet50": ("resnet50", "resnet50-v1.5"),
    "resnet101": ("resnet101", "resnet101-v1.5"),
    "resnet152": ("resnet152", "resnet152-v1.5"),
    "resnet50v1": ("resnet50",),
    "densenetbc121": ("densenet121",),
    "densenetbc161": ("densenet161",),
    "densenetbc169": ("densenet169",),
    "densenetbc201": ("densenet201",),
    "networkinnetwork": ("nin",),
}
ALSO_TORCHVISION = {"squeezenet": "squeezenet1_0", "squeezenetv11": "squeezenet1_1", "squeezenetv10": "squeezenet1_0"}
_SIZES = (("tiny", "t"), ("small", "s"), ("base", "b"), ("large", "l"), ("huge", "h"))


def candidates(printed: str) -> list[Known]:
    """The networks of the zoo that a printed name may stand for, the likeliest first; empty where there is none."""
    text = _plain(printed)
    exact = _exact(text)
    if exact:
        return [Known(exact)]
    found = [Known(spec) for spec in ALSO.get(_key(text), ()) or _zoo().get(_key(text), ())]
    if found:
        return found
    multiplied = _multiplied(text)
    if multiplied:
        return [multiplied]
    shorter, side = _shorter(text)
    return [one._replace(input=one.input or side) for one in candidates(shorter)] if shorter else []


def in_torchvision(printed: str) -> list[Known]:
    """The networks of torchvision that a printed name may stand for; empty where it is not installed."""
    try:
        from torchvision.models import list_models
    except ImportError:
        return []
    import torchvision.models

    names = {_key(name): name for name in list_models(module=torchvision.models)} | ALSO_TORCHVISION
    text, side = _plain(printed), ""
    while text:
        for key in _spellings(text):
            if key in names:
                return [Known(f"torchvision:{names[key]}", side)]
        text, read = _shorter(text)
        side = side or read
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
    return {_key(name): (name,) for name in entries()}


def _exact(text: str) -> str:
    """A name that is typed as archscope wants it: `mobilenet-v1@width=0.5`, `torchvision:resnet50`."""
    if "@" not in text and ":" not in text:
        return ""
    try:
        return parse(text).text
    except ArchscopeError:
        return ""


def _shorter(text: str) -> tuple[str, str]:
    """The name with less: first without its remarks, then without the side of its input. Empty where it has neither."""
    bare, side = _without_remarks(text), ""
    if _key(bare) == _key(text):
        bare, side = _without_side(text)
    return ("", "") if _key(bare) == _key(text) else (bare, side)


def _without_remarks(text: str) -> str:
    """Without what stands in brackets, and without the family's constants: `densenet-121 (k=32)`."""
    inner = re.sub(
        r"\(([^)]*)\)", lambda m: f" {m[1]} " if re.search(r"\d+\s*x\s*\d+d|/\d+|bn|\d\.\d", m[1]) else " ", text
    )
    inner = re.sub(
        r"\bk\s*=\s*\d+\b|\bw/o\b.*|\bwithout\b.*|\bplain\b|\boriginal\b|\btorchvision\b|\bpytorch\b", " ", inner
    )
    return " ".join(inner.split())


def _without_side(text: str) -> tuple[str, str]:
    """`mobilenet-224`, `vit-b/16 @ 384`, `swin-b ↑384`: the name and the side of the input."""
    found = re.fullmatch(r"(.*?)[\s_@↑,(-]+(\d{2,3})(?:\s*(?:px|²|x\s*\2))?\)?", text)
    if found is None or not 90 <= int(found[2]) <= 999:
        return text, ""
    return found[1].strip(" -_@↑"), found[2]


def _multiplied(text: str) -> Known | None:
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
    name = f"mobilenet-v{version}" + (f"-{size}" if size else "")
    width = f"@width={widths[0]}" if widths and float(widths[0]) != 1 else ""
    return Known(name + width, sides[0] if sides else "")


def _spellings(text: str) -> Iterable[str]:
    """The keys under which torchvision may have a network."""
    yield _key(text)
    short = text
    for long, letter in _SIZES:
        short = re.sub(rf"\b{long}\b", letter, short)
    yield _key(short)
    long_form = re.sub(r"(?<=convnext)[\s_-]*([tsbl])\b", lambda m: {s: w for w, s in _SIZES}[m[1]], text)
    yield _key(long_form)
    yield _key(text.replace("wrn", "wide_resnet"))
    yield _key(re.sub(r"\bnet\b", "", text))
    found = re.search(r"(?<![\d.])([0-2])(?:\.(\d))?\s*x?\)?$", text)  # shufflenet v2 1.0x -> shufflenetv2x10
    if found and "shuffle" in text:
        bare = text[: found.start()].rstrip(" x(_-")
        yield _key(bare if "v2" in bare else bare + "v2") + f"x{found[1]}{found[2] or 0}"
