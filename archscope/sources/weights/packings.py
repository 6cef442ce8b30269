"""How many parameters of the model the tensors of a file hold, where weights are packed several to an element.

A packing is recognised by `quantization_config` in the `config.json` beside the file, never by names alone: four bits
or eight in an int32 look the same. What is not recognised is unknown.

A file does not say which tensors are buffers. Integers, booleans, and the statistics of batch norm are taken for them.
"""

import json
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import Any

from archscope.core import files, limits
from archscope.core.registry import Registry
from archscope.core.weights import BESIDE, StoredTensor

Config = dict[str, Any]
# quant_method -> (tensors by name, configuration) -> name: (parameters, packing), of those that it explains
Explained = dict[str, tuple[int, str]]
PACKINGS: Registry[Callable[[dict[str, StoredTensor], Config], Explained]] = Registry("packing")

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
SCALES = ("weight_scale_inv", "weight_scale", "weight_scale_2", "weight_zero_point", "input_scale", "weight_shape",
          "weight_global_scale", "input_global_scale", "activation_scale", "k_scale", "v_scale",
          "output_scale")  # fmt: skip
# last parts of names that are those of packed weights, or of what belongs to them
PACKED = ("weight", "qweight", "qzeros", "scales", "g_idx", "weight_packed", "SCB", "weight_format", "absmax")


def with_parameters(tensors: Iterable[StoredTensor], config: Path) -> tuple[list[StoredTensor], list[str]]:
    """The tensors with their parameters, and a sentence for what stays unknown. config: the file beside them."""
    named = {tensor.name: tensor for tensor in tensors}
    found = quantization(config)
    method = str(found.get("quant_method", ""))
    explained = PACKINGS[method](named, found) if method in PACKINGS else {}
    out, unknown = [], []
    for tensor in named.values():
        params, packing = explained.get(tensor.name) or _plain(tensor, named)
        out.append(tensor._replace(params=params, packing=packing))
        if params is None:
            unknown.append(tensor.name)
    if not unknown:
        return out, []
    why = f"the packing {method!r} is not known" if method else "no quantization_config beside the file says how"
    are = "1 tensor is packed" if len(unknown) == 1 else f"{len(unknown):,} tensors are packed"
    return out, [f"{are}, such as {unknown[0]}, and {why}: the number of parameters is unknown, the bytes are not"]


def quantization(config: Path) -> Config:
    """`quantization_config` of a file, empty where there is none."""
    try:
        found = json.loads(files.text(config, limits.CONFIG))
        inner = found.get("text_config")
        found = found.get("quantization_config") or (inner or {}).get("quantization_config")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(tensor: StoredTensor, named: dict[str, StoredTensor]) -> tuple[int | None, str]:
    """The parameters of a tensor that no packing explains."""
    owner, _, last = tensor.name.rpartition(".")
    if last in BUFFERS:
        return 0, ""
    if tensor.dtype.startswith(("float", "bfloat", "complex")):
        weight = named.get(f"{owner}.weight" if owner else "weight")
        packed = any(f"{owner}.{name}" in named for name in ("qweight", "weight_packed"))
        of_float8 = last in SCALES and weight is not None and weight.dtype.startswith("float8")
        if of_float8 or (packed and last in (*SCALES, "scales")):
            return 0, BESIDE
        return tensor.numel, ""
    of_packed = last in PACKED or last.endswith(("_blocks", "_scales", "_packed"))
    return (None if of_packed and "int" in tensor.dtype else 0), ""


def _modules(named: dict[str, StoredTensor], last: str) -> Iterable[tuple[str, StoredTensor]]:
    """Every tensor of that last name, with the prefix of its module, "model.layers.0.mlp.up_proj."."""
    return [(name[: -len(last)], t) for name, t in named.items() if name == last or name.endswith(f".{last}")]


def _belong(found: Explained, named: dict[str, StoredTensor], prefix: str, *lasts: str) -> None:
    """Tensors of a packed weight that hold no parameters."""
    found.update({f"{prefix}{last}": (0, BESIDE) for last in lasts if f"{prefix}{last}" in named})


@PACKINGS.register("gptq")
def gptq(named: dict[str, StoredTensor], config: Config) -> Explained:
    """qweight [in·bits/32, out] int32 (AutoGPTQ, GPTQModel: `qlinear_cuda.py`); qzeros, scales and g_idx beside it."""
    return _int32(named, config, "GPTQ")


@PACKINGS.register("awq")
def awq(named: dict[str, StoredTensor], config: Config) -> Explained:
    """qweight [in, out·bits/32] int32 (AutoAWQ, `WQLinear_GEMM`); the version "gemv" [out, in·bits/32]."""
    return _int32(named, config, "AWQ")


def _int32(named: dict[str, StoredTensor], config: Config, what: str) -> Explained:
    found: Explained = {}
    default = config.get("bits", config.get("w_bit"))
    for prefix, tensor in _modules(named, "qweight"):
        width = _bits(default)
        if width is None or tensor.dtype != "int32" or config.get("dynamic"):  # layers with bits of their own
            continue
        if 32 * tensor.numel % width:
            continue
        found[tensor.name] = (32 * tensor.numel // width, f"{what} int{width}")
        _belong(found, named, prefix, "qzeros", "scales", "g_idx")
    return found


def _bits(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value in (2, 3, 4, 8) else None


@PACKINGS.register("mxfp4")
def mxfp4(named: dict[str, StoredTensor], config: Config) -> Explained:
    """NAME_blocks [..., groups, 16] uint8, two weights of 4 bits a byte; NAME_scales [..., groups], one a group of 32
    (OCP Microscaling Formats, version 1.0): 4.25 bits a weight."""
    found: Explained = {}
    for name, tensor in named.items():
        scales = named.get(f"{name.removesuffix('_blocks')}_scales")
        if name.endswith("_blocks") and tensor.dtype == "uint8" and scales is not None:
            if tensor.shape[-1:] == (16,) and tensor.shape[:-1] == scales.shape:
                found[name] = (2 * tensor.numel, "mxfp4")
                found[scales.name] = (0, BESIDE)
    return found


@PACKINGS.register("fp8", "fbgemm_fp8")
def fp8(named: dict[str, StoredTensor], config: Config) -> Explained:
    """weight float8, an element a parameter; weight_scale_inv one a block (DeepSeek-V3: 128×128), weight_scale."""
    found: Explained = {}
    for prefix, tensor in _modules(named, "weight"):
        if tensor.dtype.startswith("float8"):
            found[tensor.name] = (tensor.numel, "fp8")
            _belong(found, named, prefix, *SCALES)
    return found


@PACKINGS.register("compressed-tensors")
def compressed(named: dict[str, StoredTensor], config: Config) -> Explained:
    """By `format`: pack-quantized (weight_packed int32 [out, ⌈in·bits/32⌉]), nvfp4-pack-quantized (uint8 [out, in/2]),
    float-quantized, int-quantized and naive-quantized (an element a parameter), dense."""
    found = fp8(named, config)
    widths = set()
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            widths.add((weights.get("num_bits"), str(weights.get("type"))))
    if len(widths) != 1:
        return found
    ((bits, kind),) = widths
    if not isinstance(bits, int) or isinstance(bits, bool):
        return found
    for prefix, tensor in _modules(named, "weight_packed"):
        a_piece = {"int32": 32, "uint8": 8}.get(tensor.dtype, 0)
        scale = named.get(f"{prefix}weight_scale")
        if bits not in (4, 8) or not a_piece or len(tensor.shape) != 2 or scale is None:
            continue
        count = prod(tensor.shape) * a_piece // bits  # rows of whole groups fill their last element
        found[tensor.name] = (count, f"compressed-tensors {'fp' if kind == 'float' else 'int'}{bits}")
        _belong(found, named, prefix, *SCALES, "weight_g_idx")
    for prefix, tensor in _modules(named, "weight"):
        if bits == 8 and tensor.dtype == "int8" and f"{prefix}weight_scale" in named:
            found[tensor.name] = (tensor.numel, "compressed-tensors int8")
            _belong(found, named, prefix, *SCALES)
    return found
