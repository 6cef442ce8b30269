"""Low-rank adapters in closed form: what LoRA (arXiv:2106.09685) adds to a model, by its `adapter_config.json`.

Each target, a matrix of in × out, gets A of r × in and B of out × r. Which modules are targets, and of which rank, is
read as peft reads it. What is not recognised is unknown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from archscope.analysis.generation import ADAPTER, looked_up, parameters, part_of, plain_name
from archscope.core.record import Param, Trace

Config = Mapping[str, Any]
# fields that are read here, and fields that change no number of parameters
_READ = ("peft_type task_type r target_modules exclude_modules layers_to_transform layers_pattern rank_pattern bias "
         "modules_to_save use_dora lora_bias")  # fmt: skip
_NO_MATTER = (
    "auto_mapping peft_version base_model_name_or_path revision inference_mode lora_alpha lora_dropout fan_in_fan_out "
    "use_rslora init_lora_weights alpha_pattern megatron_core loftq_config corda_config lora_ga_config runtime_config "
    "alora_invocation_tokens qalora_group_size"
)
_KNOWN = frozenset(f"{_READ} {_NO_MATTER}".split())


class Adapted(NamedTuple):
    """added: parameters that the model has more. trainable: with the biases that are trained; that is what is stored.

    matrices: of `added`, what each token is multiplied by; None where tokens differ. working: the sum.
    """

    added: int
    trainable: int
    matrices: int | None
    working: str


class _Target(NamedTuple):
    module: str
    weight: Param
    rank: int
    width: int  # of the output


def adapted(config: Config, record: Trace) -> Adapted | str:
    """What an adapter comes to on the model of a record, with or without it; in words why that is not known."""
    try:
        return _adapted(config, record)
    except (TypeError, AttributeError, re.error) as error:
        return f"not a configuration of peft: {error}"


def _adapted(config: Config, record: Trace) -> Adapted | str:
    if config.get("peft_type") != "LORA":
        return f"peft_type {config.get('peft_type')!r}"
    if (more := next((key for key, value in config.items() if value and key not in _KNOWN), None)) is not None:
        return more
    targets = list(_targets(config, record))
    if any(not isinstance(one.rank, int) or one.rank < 1 for one in targets) or not targets:
        return "a rank that is no whole number" if targets else "target_modules"
    sums: dict[tuple[int, int, int], int] = {}
    added = matrices = 0
    for one in targets:
        total = sum(one.weight.tensor.shape)
        more = one.width * (bool(config.get("use_dora")) + bool(config.get("lora_bias")))
        sums[one.rank, total, more] = sums.get((one.rank, total, more), 0) + 1
        added += one.rank * total + more
        matrices += one.rank * (one.width if one.weight.tensor.id in looked_up(record) else total)
    terms = [f"{n}·({r}·{total:,}{f' + {more:,}' if more else ''})" for (r, total, more), n in sums.items()]
    copies = _copies(config, record)
    biases = _biases(config, record, targets)
    if copies is None or biases is None:
        return "modules_to_save of tied weights" if copies is None else f"bias {config.get('bias')!r}"
    terms += [f"{copies:,} in modules of their own"] * bool(copies) + [f"{biases:,} biases"] * bool(biases)
    shared = any(part_of(record, one.weight) in ("experts", "image") for one in targets)
    return Adapted(added + copies, added + copies + biases, None if shared else matrices, " + ".join(terms))


def _modules(record: Trace) -> Iterator[tuple[str, Param]]:
    """Modules of the base with their weight matrix, under the names that they have without an adapter."""
    for param in record.params:
        if param.name.endswith(".weight") and len(param.tensor.shape) == 2 and not ADAPTER.search(param.name):
            yield plain_name(param.name).removesuffix(".weight"), param


def _targets(config: Config, record: Trace) -> Iterator[_Target]:
    ranks, everything = config.get("rank_pattern") or {}, str(config.get("target_modules")).lower() == "all-linear"
    for module, weight in _modules(record):
        kind = str(record.modules.get(weight.name.removesuffix(".weight"), ""))
        if everything:
            hit = kind.endswith(("Linear", "Conv1D")) and part_of(record, weight) not in ("head", "embedding")
        else:
            hit = _named(config, module)
        if not hit or _excluded(config, module):
            continue
        rank = next((r for key, r in ranks.items() if re.match(rf"(.*\.)?({key})$", module)), config.get("r", 8))
        first = kind.endswith("Conv1D")  # its weight is in × out, those of others out × in
        width = weight.tensor.shape[1 if first or weight.tensor.id in looked_up(record) else 0]
        yield _Target(module, weight, rank, width)


def _named(config: Config, module: str) -> bool:
    """`check_target_module_exists` of peft: one pattern for the whole name, or last parts of names in given layers."""
    wanted, layers = config.get("target_modules") or (), config.get("layers_to_transform")
    if isinstance(wanted, str):
        return bool(re.fullmatch(wanted, module))
    if module in wanted:
        return True
    hit = any(module.endswith(f".{name}") for name in wanted)
    if not hit or layers is None or layers == []:
        return hit
    patterns = config.get("layers_pattern") or r"[^.]*"
    found = None
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = found or re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module)
    return found is not None and int(found[1]) in ([layers] if isinstance(layers, int) else layers)


def _excluded(config: Config, module: str) -> bool:
    out, saved = config.get("exclude_modules") or (), config.get("modules_to_save") or ()
    if isinstance(out, str):
        hit = bool(re.fullmatch(out, module))
    else:
        hit = any(module == name or module.endswith(f".{name}") for name in out)
    return hit or any(re.match(rf"(^|.*\.){name}($|\..*)", module) for name in saved)


def _copies(config: Config, record: Trace) -> int | None:
    """Parameters of the modules that are trained whole, as copies beside the frozen ones. None where they are tied."""
    saved = tuple(config.get("modules_to_save") or ())
    held: dict[int, Param] = {}
    for param in record.params:
        module = plain_name(param.name)
        parents = [module[: at.start()] for at in re.finditer(r"\.", module)]
        if not ADAPTER.search(param.name) and saved and any(parent.endswith(saved) for parent in parents):
            if param.tensor.id in held:
                return None
            held[param.tensor.id] = param
    return sum(param.tensor.numel for param in held.values())


def _biases(config: Config, record: Trace, targets: list[_Target]) -> int | None:
    """Biases of the base that are trained; None for a word that peft does not have."""
    kind = config.get("bias", "none")
    if kind not in ("none", "all", "lora_only"):
        return None
    own = {f"{one.module}.bias" for one in targets}
    base = [p for p in parameters(record) if kind != "none" and not ADAPTER.search(p.name)]
    return sum(p.tensor.numel for p in base if ("bias" in p.name if kind == "all" else plain_name(p.name) in own))
