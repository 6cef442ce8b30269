"""The gate for tests: a model is what the lock says, has so many parameters, keeps to a budget.

    archscope.assert_unchanged(model, (1, 3, 224, 224))
    archscope.assert_params(model, 60_965_224)
    archscope.assert_budget(model, (1, 3, 224, 224), params="<= 3.5 M", macs="<= +2 %")

A model is an `nn.Module`, a class or function that builds one (without weights), or a name as on the command line.
A failure is an AssertionError that names the layers that changed.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from archscope.core.errors import SpecError
from archscope.gate.budget import STEP, Budget, Target, find, judge, limit_of, sparse
from archscope.gate.drift import Drift, changes, drift_of, sentence
from archscope.gate.judge import entry_of, locked_config, path_of, run, with_step
from archscope.gate.lock import STEP_KEYS, Entry, Line, read, shown, update
from archscope.gate.reports import MOST, drift_lines, headline
from archscope.sources.inputs import parse_inputs, texts_of
from archscope.sources.loading import load, tensor_of


def assert_unchanged(
    model: Any,
    input: Any = None,
    *,
    name: str | None = None,
    lock: str | os.PathLike[str] | None = None,
    renew: bool = False,
    train: bool = False,
) -> None:
    """Fail where a model differs from the lock, layer by layer.

    input: a shape, "1x128:int64", tensors, or a tuple or dict of these; None: the default of a model that is named.
    name: under which the lock has it; else what `load` was asked for, or the class. lock: the file; else that of the
    repository. renew: write the model as it is now into the lock instead, as `pytest --archscope-update` does.

    Raises AssertionError where it changed or is not in the lock, LockError where the lock cannot be read.
    """
    __tracebackhide__ = True
    path = _path(lock)
    before, now = _compared(model, input, name, path, train)
    if renew:
        update(path, lambda entries: {**entries, now.model: now})
        return
    if before is None:
        same = [key for key in _entries(path) if key.rpartition(":")[2] == now.model]
        also = f"; `name={same[0]!r}` means the one that is there" if same else ""
        raise AssertionError(f"{now.model} is not in {shown(path)}: {_RENEW} writes it down{also}")
    drift = drift_of(before, now)
    if drift:
        raise AssertionError(_difference(drift, path))


_RENEW = "`pytest --archscope-update`, or renew=True,"


def assert_params(
    model: Any, expected: int | str, *, name: str | None = None, lock: str | os.PathLike[str] | None = None
) -> None:
    """Fail where a model has another number of parameters, each counted once; `"<= 3.5 M"` is a limit.

    The message names the layers that changed since the lock was written, or, where the lock does not have the model,
    those that have most. Raises AssertionError; SpecError where the limit cannot be understood.
    """
    __tracebackhide__ = True
    limit = limit_of("params", _limit(expected))
    built, title = _built(model, name)
    path = _path(lock)
    before = _entries(path).get(title)
    lines = _lines(built, before)
    found = sum(line.params for line in lines)
    totals = {"params": found}
    now = Entry(title, "", {}, 0, {}, totals, tuple(lines))
    (verdict,) = judge([Budget(title, {}, (limit,))], now, before)
    if verdict.holds:
        return
    if limit.sign == "==" and not limit.of and verdict.bound is not None:
        report = [f"{title} has {found:,} parameters, not {int(verdict.bound):,} ({found - int(verdict.bound):+,})"]
    else:
        report = [f"{title}: {verdict.sentence}"]
    raise AssertionError("\n    ".join([*report, *_reasons(before, lines, path)]))


def assert_budget(
    model: Any,
    input: Any = None,
    *,
    name: str | None = None,
    lock: str | os.PathLike[str] | None = None,
    train: bool = False,
    message: str = "",
    **limits: int | str,
) -> None:
    """Fail where a total is beyond a limit: `params="<= 3.5 M", macs="<= +2 %", activations="<= 64 MB"`.

    A whole number is exactly that many. Limits against the lock need the model to be in it; then the message names the
    layers that changed. Raises AssertionError; SpecError where a limit cannot be understood.
    """
    __tracebackhide__ = True
    read_limits = tuple(limit_of(metric, _limit(limit_text)) for metric, limit_text in limits.items())
    if not read_limits:
        raise SpecError('no limit was given: write params="<= 3.5 M"')
    path = _path(lock)
    wanted = any(limit.metric in STEP_KEYS for limit in read_limits)
    before, now = _compared(model, input, name, path, train, wanted)
    broken = [v for v in judge([Budget(now.model, {}, read_limits, message)], now, before) if not v.holds]
    if not broken:
        return
    report = [f"{now.model}: {verdict.sentence}" for verdict in broken] + ([message] if message else [])
    drift = before and drift_of(before, now)
    if drift:
        report += [f"since {shown(path)}:", *(f"    {line}" for line in drift_lines(drift))]
    raise AssertionError("\n    ".join(report))


def _limit(limit_text: int | str) -> str:
    return f"== {limit_text}" if type(limit_text) is int else str(limit_text)


def _difference(drift: Drift, path: str) -> str:
    lines = [f"{drift.after.model} is not what {shown(path)} says: {headline(drift)}", *drift_lines(drift)]
    return "\n    ".join(lines) + f"\n{_RENEW} accepts it"


# ------------------------------------------------------------------------------------------------------ the model


def _path(lock: str | os.PathLike[str] | None) -> str:
    return os.fspath(lock) if lock is not None else path_of(find(), None)


def _entries(path: str) -> Mapping[str, Entry]:
    return read(path) if os.path.exists(path) else {}


def _compared(
    model: Any, input: Any, name: str | None, path: str, train: bool, step: bool = False
) -> tuple[Entry | None, Entry]:
    """A model as the lock has it, and as it is now. step: with the totals of a training step, as the config has it."""
    if isinstance(model, str):
        before = _entries(path).get(model)
        asked = sparse({"input": texts_of(input) if input is not None else None, "train": train})
        asked = dict(asked or (before.asked if before else {}))
        if step:
            asked["step"] = _step(before)
        return before, run(Target(model, asked))
    from archscope.tracing.tracer import trace

    built, title = _built(model, name)
    before = _entries(path).get(title)
    record = trace(built, _inputs(input), name=title, train=train)
    if before is not None and before.by == "command":  # the same model, which the command can build too
        now = entry_of(record, title, before.asked)
    else:
        now = entry_of(record, title, by="python")
    if step or "step" in now.asked:
        from archscope.tracing.step import trace_step

        now = with_step(now, trace_step(built, _inputs(input), name=title, **_step(before)))
    return before, now


def _step(before: Entry | None) -> dict[str, Any]:
    """The conditions of a training step: those of the config, of the lock, or the usual ones."""
    locked = before.asked.get("step") if before is not None else None
    return dict(find().step or locked or STEP)


def _built(model: Any, name: str | None) -> tuple[Any, str]:
    """The module, and what it is called."""
    if isinstance(model, str):
        return load(model)[0], name or model
    if not hasattr(model, "named_modules") or isinstance(model, type):
        if not callable(model):
            raise SpecError(f"{model!r} is neither a module, nor something that builds one, nor the name of a model")
        from archscope.tracing.weightless import weightless

        with weightless():
            model = model()
    return model, name or getattr(model, "archscope_name", None) or type(model).__name__


def _inputs(input: Any) -> Any:
    """What `trace` takes: texts become tensors on the meta device."""
    if input is None:
        raise SpecError("give the input that the model runs on: assert_unchanged(model, (1, 3, 224, 224))")
    if isinstance(input, str) or (isinstance(input, Sequence) and input and all(isinstance(i, str) for i in input)):
        tensors = [(one.name, tensor_of(one)) for one in parse_inputs(texts_of(input), ())]
        named = {key: tensor for key, tensor in tensors if key}
        return named if len(named) == len(tensors) else tuple(tensor for _, tensor in tensors)
    return input


# ----------------------------------------------------------------------------------------- parameters, without a run


def _lines(model: Any, before: Entry | None) -> list[Line]:
    """The parameters of a module by layer, as the lock groups them: each belongs to the nearest layer that it has."""
    layers = {line.path for line in before.lines} if before else set()
    modules = dict(model.named_modules(remove_duplicate=False))
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for path, param in model.named_parameters():  # tied ones come once
        home = path.rpartition(".")[0]
        while home not in layers and "." in home and before is not None:
            home = home.rpartition(".")[0]
        if home not in layers:
            home = path if path in layers else path.rpartition(".")[0]
        counts[home][0] += param.numel()
        counts[home][1] += param.numel() if param.requires_grad else 0
    from archscope.tracing.modules import describe

    lines = []
    for path, (params, trainable) in counts.items():
        kind, config = describe(modules[path]) if path in modules else ("Parameter", {})
        lines.append(Line(path, kind, locked_config(config), "", params, trainable))
    return lines


def _reasons(before: Entry | None, lines: Sequence[Line], path: str) -> list[str]:
    """The layers that changed since the lock, or those with most parameters."""
    if before is not None:
        was = [line._replace(output="", macs=0, flops=0, activations=0) for line in before.lines if line.params]
        report = [sentence(change) for change in changes(was, lines)]
        if report:
            more = [f"… and {len(report) - MOST} more"] if report[MOST:] else []
            return [f"since {shown(path)}:", *report[:MOST], *more]
    most = sorted(lines, key=lambda line: -line.params)[:10]
    return [f"{line.path or '(the model)'} ({line.kind}): {line.params:,}" for line in most]
