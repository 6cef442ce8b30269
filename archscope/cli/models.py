"""`list`, `trace` and `table`: to look at networks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from archscope.cli.base import (
    As,
    Batch,
    Bench,
    Columns,
    ExplainCache,
    Fresh,
    Image,
    Input,
    Method,
    Model,
    OneCommand,
    Optimizer,
    Output,
    OutputOptions,
    Precision,
    Source,
    Train,
    TrainStep,
    Values,
    may_write,
    names,
    progress,
    put,
    step_conditions,
    whole_number,
)
from archscope.core.errors import SpecError

if TYPE_CHECKING:
    from archscope.report.language import Setting

app = typer.Typer()


@app.command("list", cls=OneCommand)
def list_models(
    pattern: Annotated[
        list[str] | None,
        typer.Argument(help="Names or wildcards; the whole zoo when left out.", metavar="[PATTERN]..."),
    ] = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
) -> None:
    """The models of the zoo, or of another source, with what is published of them.

    \b
    archscope list
    archscope list 'resnet*' --format json
    archscope list 'torchvision:*' 'timm:vit_*' 'transformers:Llama*'
    archscope list 'nets.py:*'                     what can be built of a file
    """
    from archscope.sources.catalogue import listing
    from archscope.sources.spec import expand

    shown = OutputOptions(columns, format, output)
    listed = listing(expand(["all"] if pattern is None else map(_wildcard, pattern)))
    shown.print(listed)


def _wildcard(word: str) -> str:
    """`timm` is every model of timm, `resnet` every network of the zoo with that in its name."""
    from archscope.sources.source import prefixes
    from archscope.zoo.catalogue import entries

    if word in prefixes():
        return f"{word}:*"
    return f"*{word}*" if word not in entries() and any(word in name for name in entries()) else word


@app.command(cls=OneCommand)
def trace(
    model: Model,
    input: Input = None,
    batch: Batch = None,
    depth: Annotated[
        str | None, typer.Option("--depth", "-d", help="Show modules down to this depth.", metavar="N")
    ] = None,
    train: Train = False,
    train_step: TrainStep = False,
    optimizer: Optimizer = None,
    precision: Precision = None,
    values: Values = None,
    method: Method = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
    save: Annotated[
        str | None,
        typer.Option("--save", help="Keep the record as JSON, to be named as a model later.", metavar="FILE"),
    ] = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """One model, layer by layer: shapes, parameters and MACs, each with its derivation and whether it holds.

    \b
    archscope trace alexnet
    archscope trace alexnet --input 224            what goes wrong, and what would work
    archscope trace mobilenet-v1@width=0.5 --depth 2
    archscope trace torchvision:resnet50           timm:NAME, transformers:LlamaConfig
    archscope trace nets.py:Net@width=2 --input tokens=1x128:int64 --input mask=1x128:bool
    archscope trace resnet50 --train-step --optimizer adamw --batch 32
    archscope trace alexnet --save alexnet.json    later: archscope trace alexnet.json
    archscope trace lenet --columns path,formula,params --format md
    archscope trace model.safetensors              the tensors of a file of weights; with --depth by module
    """
    from functools import partial

    from archscope.analysis.by_layer import LAYER_COLUMNS, LAYER_HIDDEN, layer_json, layer_table
    from archscope.analysis.step_work import WORK_COLUMNS, work_json, work_table
    from archscope.sources.records import record_of, step_of
    from archscope.sources.source import only_weights
    from archscope.sources.spec import parse

    shown = OutputOptions(columns, format, output)
    if only_weights(model):
        _tensors(parse(model), shown, depth, [input, batch, train, save, train_step])
        return
    conditions = step_conditions(train_step, optimizer, precision)
    shown.check(WORK_COLUMNS if train_step else LAYER_COLUMNS + LAYER_HIDDEN)
    if save is not None:
        may_write(save, "--save")
    level, examples = whole_number("--depth", depth), whole_number("--batch", batch)
    with shown.chain(level):
        record = (
            record_of(model, input, examples, train)
            if conditions is None
            else step_of(model, input, examples, **conditions)
        )
    if save is not None:
        put(record.to_json() + "\n", save)
    if len(record.phases) > 1:  # a step, also one that was saved
        shown.print(work_table(record, level), partial(work_json, record))
        return
    table = layer_table(record, level)
    shown.print(table, partial(layer_json, record))
    if any(row["agrees"] is False for row in table.rows):
        raise typer.Exit(1)


def _tensors(spec: Any, shown: OutputOptions, depth: str | None, of_a_run: list[Any]) -> None:
    """The tensors of a file of weights. of_a_run: options that only a run has."""
    from functools import partial

    from archscope.analysis.by_tensor import TENSOR_COLUMNS, TENSOR_HIDDEN, tensor_json, tensor_table

    shown.check(TENSOR_COLUMNS + TENSOR_HIDDEN)
    if any(of_a_run):
        options = "--input, --batch, --train, --train-step and --save"
        raise SpecError(f"{spec.name} has no operators and does not run: {options} need a run")
    weights = spec.source.weights(spec.name)
    shown.print(tensor_table(weights, whole_number("--depth", depth)), partial(tensor_json, weights))


@app.command(cls=OneCommand)
def table(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names and wildcards, as with --models.", autocompletion=names, metavar="[MODEL]..."),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", help="all, or names and wildcards separated by commas.", metavar="MODELS"),
    ] = None,
    input: Input = None,
    batch: Batch = None,
    train: Train = False,
    train_step: TrainStep = False,
    optimizer: Optimizer = None,
    precision: Precision = None,
    values: Values = None,
    method: Method = None,
    like: Annotated[
        str | None,
        typer.Option("--as", help="What other tools would print: torchinfo,fvcore,torch, … or all.", metavar="TOOLS"),
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", "-s", help="Key to sort by; -KEY for the largest first.", metavar="KEY")
    ] = None,
    jobs: Annotated[str | None, typer.Option("--jobs", "-j", help="Processes (1).", metavar="N")] = None,
    bench: Bench = None,
    llm: Annotated[
        bool, typer.Option("--llm", help="Language models: parameters, cache and work at a context.")
    ] = False,
    context: Annotated[
        str | None,
        typer.Option("--context", help="With --llm: tokens of prompt and cache (8192).", metavar="N"),
    ] = None,
    source: Source = None,
    image: Image = None,
    columns: Columns = None,
    format: As = "terminal",
    output: Output = None,
    fresh: Fresh = False,
    explain_cache: ExplainCache = False,
) -> None:
    """Models side by side: parameters, MACs, memory, receptive field, and whether every derivation holds.

    \b
    archscope table --models all
    archscope table --models 'vgg*,resnet50' --sort -macs --format md
    archscope table --models all --format latex --output table.tex
    archscope table 'resnet*' --as fvcore          the figures that fvcore would print
    archscope table --models 'timm:*' --jobs 2     a source whole, in two processes
    archscope table vgg16 resnet50 --batch 32 --columns model,training_macs,peak_memory
    archscope table lenet nin --bench runs.jsonl   with what archscope bench has measured
    archscope table lenet nin --bench 'runs.jsonl@recipe=d2l'
    archscope table transformers:GPT2Config transformers:LlamaConfig --llm --context 1024
    """
    if llm or any(word is not None for word in (context, source, image)):
        from archscope.report.language import Setting

        setting = Setting(
            whole_number("--context", context or "8192") or 1,
            whole_number("--batch", batch) or 1,
            source=whole_number("--source", source),
            image=whole_number("--image", image, 0),
        )
        _language_models([*(names or []), *(models or [])], setting, sort, OutputOptions(columns, format, output))
        return
    from archscope.analysis.metrics import STEP_METRICS
    from archscope.peers.reconcile import chosen
    from archscope.report.comparison import columns_for, side_by_side
    from archscope.sources.spec import expand

    shown = OutputOptions(columns, format, output)
    examples, processes = whole_number("--batch", batch), whole_number("--jobs", jobs) or 1
    specs = expand([*(names or []), *(models or [])] if names or models else ["all"])
    tools = [] if like is None else chosen(like)
    asked = [*(shown.columns or ()), (sort or "").removeprefix("-")]
    of_step = train_step or any(key in STEP_METRICS and not (bench and key == "peak_memory") for key in asked)
    step = step_conditions(of_step, optimizer, precision)
    kept, hidden = columns_for(tools, bool(bench), True)
    shown.check(kept + hidden, sort)
    runs = None
    if bench:
        from archscope.bench import results
        from archscope.bench.model_columns import measured

        runs = measured(results.read(bench), [spec.text for spec in specs], bench)

    with progress(specs) as counted:
        compared = side_by_side(counted, input, examples, train, tools, processes, runs, step)
    if sort:
        compared = compared.sort(sort.removeprefix("-"), descending=sort.startswith("-"))
    shown.print(compared)
    if any(row.get("error") or row.get("verified") is False for row in compared.rows):
        raise typer.Exit(1)


def _language_models(names: list[str], setting: "Setting", sort: str | None, shown: OutputOptions) -> None:
    from archscope.report.language import MODEL_COLUMNS, MODEL_HIDDEN, models_table
    from archscope.sources.spec import expand

    shown.check(MODEL_COLUMNS + MODEL_HIDDEN, sort)
    with progress(expand(names)) as counted:
        compared = models_table(counted, setting)
    if sort:
        compared = compared.sort(sort.removeprefix("-"), descending=sort.startswith("-"))
    shown.print(compared)
    if any(row.get("error") or row.get("agrees") is False for row in compared.rows):
        raise typer.Exit(1)
