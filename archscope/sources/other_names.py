"""Names of models as other tools and Python write them -> names of archscope.

    torchvision.models.resnet18, torchvision.models:resnet18()     torchvision:resnet18
    vit_b_16, resnet101d                                           torchvision:vit_b_16, timm:resnet101d
    timm/resnet50.a1_in1k, pytorch/vision:resnet18                 timm:resnet50, torchvision:resnet18
    timm.create_model('resnet18')                                  timm:resnet18
    nets.py::Net, nets.py.Net, package.models.Net                  nets.py:Net, package.models:Net

A name of the zoo is never read in another way. No library is imported for this.
"""

import difflib
import re
from importlib.util import find_spec
from pathlib import Path

from archscope.core.table import did_you_mean
from archscope.sources.source import Source, every_source, prefixes

HUB = {"pytorch/vision": "torchvision", "huggingface/pytorch-image-models": "timm"}  # repositories of torch.hub
NO_CODE = (".ipynb", ".yaml", ".yml", ".toml")
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx", ".h5", ".keras", ".tflite", ".pkl")


def translated(head: str) -> str:
    """A name in archscope's form, or the name as it is."""
    plain = re.sub(r"\(\s*\)$", "", head)
    if in_timm := re.fullmatch(r"timm\.create_model\(['\"]([\w.]+)['\"].*\)", plain):
        plain = f"timm/{in_timm[1]}"
    if in_file := re.fullmatch(r"(.+\.py)(?:::|[.#\s]+)([^\W\d]\w*)", plain):
        return f"{in_file[1]}:{in_file[2]}"
    if plain.endswith(".py") or ".py:" in plain:
        return plain
    owner, colon, _ = plain.rpartition(":")
    if owner in HUB:
        plain = f"{HUB[owner]}/{plain.rpartition(':')[2]}"
    first, *parts = re.split(r"[./:]", plain)
    if not parts or (colon and first == owner):  # `torchvision:resnet18` is right as it is
        return plain
    if first in prefixes():
        wanted = plain.partition("/")[2].partition(".")[0] if "/" in plain else parts[-1]
        return f"{first}:{wanted}" if wanted in _names()[first] else head
    if plain.lower().endswith(NO_CODE + WEIGHTS) or any(
        source.form and re.fullmatch(source.form, plain) for source in every_source()
    ):
        return head  # `trace.json` is a file, though `trace` is a package of Python
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", plain) and _is_package(first):
        return ":".join(plain.rpartition(".")[::2])
    return head


def _is_package(name: str) -> bool:
    return find_spec(name) is not None or Path(f"{name}.py").is_file() or Path(name).is_dir()


def elsewhere(name: str) -> list[str]:
    """`torchvision:vit_b_16`: what a name without a source is in the libraries that are installed, the first first.

    A type of transformers, `bert`, is not meant by its bare name, which is a word like any other.
    """
    if not re.fullmatch(r"[\w-]+", name):
        return []
    return [f"{source}:{name}" for source, names in _names().items() if name in names and _specific(source, name)]


def _specific(source: str, name: str) -> bool:
    return source != "transformers" or name[0].isupper()


def question(name: str, zoo: list[str]) -> str:
    """`did you mean torchvision:efficientnet_b0?` for a name that is nowhere; empty where nothing is near."""
    quoted = re.search(r"\(['\"](.+?)['\"]", name)  # AutoModel.from_pretrained('bert-base-uncased')
    name = quoted[1] if quoted else name
    last = re.split(r"[./:]", name)[-1] or name
    last = re.sub(r"\W", "-", name) if last.isdigit() else last  # ViT-B/16
    bare = _bare(last)
    own = {_bare(one): one for one in zoo}
    known = own | {_bare(one): f"{source}:{one}" for source, names in reversed(_names().items()) for one in names}
    if bare in known and not any(one.startswith(bare) for one in own):
        return f"did you mean {known[bare]}?"
    if asked := did_you_mean(own.get(bare, last), zoo):
        return asked
    kinds = _names().get("transformers", frozenset())
    if begins := [one for one in kinds if bare and bare.startswith(_bare(one))]:  # bert-base-uncased
        return f"did you mean transformers:{max(begins, key=len)}?"
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.75)
    return f"did you mean {known[near[0]]}?" if near else ""


def _bare(name: str) -> str:
    return re.sub(r"[-_.\s]", "", name).lower()


def no_code(name: str) -> str:
    """Why a folder, or a file of another kind than Python's, names no model; empty for other names."""
    if name.lower().endswith(NO_CODE):
        return f"{name!r} names no model: write its class into a file, nets.py:Net, or call archscope.trace in Python"
    if name and Path(name).is_dir():
        files = sorted(str(path) for path in Path(name).glob("*.py") if not path.name.startswith("_"))
        return f"{name!r} is a folder: name a file in it{f', {files[0]}' if files else ', nets.py:Net'}"
    if not name.lower().endswith(WEIGHTS):
        return ""
    return f"{name!r} would hold weights, not the code of a model: name the class that builds it, such as nets.py:Net"


def written_with_at(typed: str) -> str:
    """`resnet50@num_classes=10` for `resnet50(num_classes=10, pretrained=True)`: a call of a named network as it is
    written here, else nothing."""
    found = re.fullmatch(r"([\w./-]+(?::\w+)?)\((.+)\)", typed)
    if found is None or found[2][0] in "'\"" or Path(typed).exists():
        return ""
    pairs = re.findall(r"(\w+)\s*=\s*((?:\([^()]*\)|\[[^\]]*\]|[^,()\[\]])+)", found[2])
    if not pairs:
        return f"{found[1]}@NAME=VALUE"
    return "@".join([found[1], *(f"{k}={v.strip()}" for k, v in pairs if k not in ("pretrained", "weights"))])


def not_installed() -> str:
    """`; timm is not installed and brings more`: the libraries whose names are not known here."""
    names = [s.name for s in every_source() if type(s).names_in_files is not Source.names_in_files and not _is_there(s)]
    return (
        f"; {' and '.join(names)} {'bring' if names[1:] else 'brings'} more: pip install {' '.join(names)}"
        if names
        else ""
    )


def _is_there(source: Source) -> bool:
    return find_spec(source.name) is not None


def _names() -> dict[str, frozenset[str]]:
    return {source.name: names for source in every_source() if (names := source.names_in_files())}
