"""Run the other tools themselves: each on a copy, what it prints and what it spoils kept away.

`run_tool("fvcore", model, inputs)` gives its figure or the reason why there is none. The copy has no weights: it is on
the meta device but for small constants. A tool that leaves the process changed runs in a process of its own.
"""

import contextlib
import copy
import importlib
import importlib.metadata
import importlib.util
import io
import multiprocessing
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from archscope.peers.fake_cpu import on_fake_cpu
from archscope.peers.reconcile import ToolResult
from archscope.peers.tools import MEASURES, Counter, find
from archscope.tracing.weightless import META

SMALL = 1 << 16  # elements; a buffer up to this size keeps its values
TIMEOUT = 600  # seconds that a tool in a process of its own may take


def run_tool(
    name: str,
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    train: bool = False,
) -> ToolResult:
    """The figure of one tool for a model in a mode. The model is left as it was.

    inputs, kwargs: tensors on any device. Raises ValueError for a name that no counter has.
    """
    counter = find(name)
    missing = _missing(counter)
    if missing:
        return ToolResult(None, missing)
    arguments = tuple(map(_on_meta, inputs))
    named = {key: _on_meta(value) for key, value in (kwargs or {}).items()}
    try:
        spoiled = without_weights(model, arguments, named).train(train)
    except Exception as error:
        return ToolResult(None, f"the model cannot be copied: {_first_line(error)}")
    run = (
        _in_own_process if counter.isolated and "fork" in multiprocessing.get_all_start_methods() else _in_this_process
    )
    figure, note = run(name, spoiled, arguments, named)
    return ToolResult(figure, note, version_of(counter))


def version_of(counter: Counter) -> str:
    """The version of the tool that is installed, "" where it is not."""
    if not counter.package:
        return torch.__version__.partition("+")[0]
    try:
        return importlib.metadata.version(counter.package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _missing(counter: Counter) -> str:
    """Why a tool cannot be run, "" where it can."""
    if counter.name not in MEASURES:
        return "a table of published figures: there is nothing to run"
    if counter.package and importlib.util.find_spec(counter.package) is None:
        return f"{counter.package} is not installed: pip install {counter.package}"
    return ""


def without_weights(model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    """A copy without weights: parameters and large buffers on the meta device, the rest as it is.

    A lazy module is run once, so that it has its parameters.
    """
    memo: dict[int, Any] = {}
    lazy = any(map(_is_lazy, (*model.parameters(), *model.buffers())))
    for parameter in model.parameters():
        if not _is_lazy(parameter):
            memo[id(parameter)] = nn.Parameter(parameter.detach().to(META), parameter.requires_grad)
    for buffer in model.buffers():
        if not _is_lazy(buffer) and buffer.numel() > SMALL:
            memo[id(buffer)] = buffer.to(META)
    for module in model.modules():
        for value in vars(module).values():  # computed from parameters; such a tensor refuses to be copied
            if isinstance(value, torch.Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().to(META)
    made = copy.deepcopy(model, memo)
    if lazy:
        with torch.no_grad(), on_fake_cpu(made, (inputs, kwargs)) as (given, named):
            made(*given, **named)
        return without_weights(made, inputs, kwargs)
    return made


def _is_lazy(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer)


def _on_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.is_meta else value.to(META)
    if type(value) in (list, tuple):
        return type(value)(map(_on_meta, value))
    return {k: _on_meta(v) for k, v in value.items()} if type(value) is dict else value


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings and prints, the state of the random generator as it was, and attention not fused into one call
    in which a tool sees nothing (which happens in evaluation where no gradient is wanted)."""
    random = torch.get_rng_state()
    fused = torch.backends.mha.get_fastpath_enabled()
    nothing = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            warnings.simplefilter("ignore")
            torch.backends.mha.set_fastpath_enabled(False)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.set_rng_state(random)


def _in_this_process(
    name: str, model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int | None, str]:
    """Run a tool in this process: its figure, or None and the reason."""
    try:
        with _quietly():
            return MEASURES[name](model, inputs, kwargs), ""
    except Exception as error:
        return None, _first_line(error)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error  # torchinfo tells first that it failed
    if any(word in str(cause) for word in ("data-independent", "item()", "meta tensors", "data-dependent")):
        return "a size depends on the values of a tensor, and a run without data has none"
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__


def _in_own_process(
    name: str, model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int | None, str]:
    """Run a tool in a copy of this process."""
    with _quietly(), contextlib.suppress(Exception):
        if find(name).package:
            importlib.import_module(find(name).package)  # here, once for all copies
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)  # the threads of this process do not live in its copy
        theirs.send(_in_this_process(name, model, inputs, kwargs))

    process = context.Process(target=run, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python, about threads that are not there
        process.start()
    theirs.close()
    try:
        if not ours.poll(TIMEOUT):
            return None, f"gave no answer in {TIMEOUT} seconds"
        return ours.recv()
    except EOFError:
        process.join()
        return None, f"its process ended with exit code {process.exitcode}"
    finally:
        ours.close()
        if process.is_alive():
            process.join(1)
        if process.is_alive():
            process.kill()
        process.join()
