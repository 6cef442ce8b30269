"""What people type who know other tools: a model without a command, `summary`, `--input-size 1 3 224 224`."""

import difflib
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from archscope.core.errors import SpecError

COMMANDS = {  # another word -> the command
    **dict.fromkeys("summary summarize summarise info show profile flops macs params layers doctor count count-params "
                    "parameters receptive-field rf".split(), "trace"),
    **dict.fromkeys("models ls list-models".split(), "list"),
    **dict.fromkeys("compare benchmark-models".split(), "table"),
    **dict.fromkeys("visualize visualise graph view picture plot-model render netron".split(), "draw"),
    **dict.fromkeys("vram estimate-memory".split(), "memory"),
    "train": "bench", "init": "lock",
}  # fmt: skip
HELP = {"help": "archscope --help` or `archscope trace --help", "version": "archscope --version"}
OPTIONS = {  # another option, with - for _ -> what to write
    **dict.fromkeys("--input-size --input-shape --input-res --shape --size --img --img-size --imgsz --image-size "
                    "--resolution -s".split(), "--input 1x3x224x224"),
    **dict.fromkeys("--batch-size --bs".split(), "--batch N"),
    **dict.fromkeys("--col-names --cols --column".split(), "--columns KEYS"),
    **dict.fromkeys("--max-depth --level".split(), "--depth N"),
    **dict.fromkeys("--dtype --dtypes --precision --half --fp16 --bf16 --amp".split(),
                    "the dtype with the input, --input 1x3x224x224:float16"),
    **dict.fromkeys("--out --output-file --save-path --file --export --show".split(), "--output FILE"),
    **dict.fromkeys(("--output", "-o"), "--out FOLDER, or --html page.html"),
    **{f"--{form}": f"--format {form}" for form in ("json", "csv", "md", "latex", "html")},
    **{f"--{form}": f"--output FILE.{form}" for form in ("svg", "png", "pdf")},
    "--markdown": "--format md", "--mode": "--train or --eval", "--optim": "--optimizer NAME",
    "--sort-by": "--sort KEY", "--vram": "--memory '24 GB'", "--lr": "--recipe NAME@lr=0.1",
    **dict.fromkeys("--seq-len --seq-length --max-length".split(), "--context N"),
    **dict.fromkeys("--model --arch --network --net".split(), "the model without an option, `archscope {} alexnet`"),
}  # fmt: skip
OF_A_STEP = {  # the same in the commands of a training step
    **dict.fromkeys("--dtype --half --fp16 --bf16".split(), "--precision bf16"), "--amp": "--precision bf16-mixed",
    "--gpu": "--device 'RTX 4090'",
}  # fmt: skip
NEEDLESS = {
    **dict.fromkeys("--device --cuda --gpu --cpu".split(), "no device is needed, because nothing is computed"),
    **dict.fromkeys("--pretrained --weights --checkpoint".split(),
                    "no weights are needed, because no number depends on them"),
    **dict.fromkeys("--verbose --quiet -v -q".split(), "--columns sets what is shown"),
    **dict.fromkeys("--macs --flops --params --layers --per-layer --print-per-layer-stat --units".split(),
                    "every layer is shown with its exact counts; --columns chooses"),
    **dict.fromkeys("--tool --with --ptflops --thop --fvcore".split(),
                    "`archscope reconcile` has a row for each tool that it knows"),
    "--sort": "layers stay in the order of the run; --format csv is for other orders",
}  # fmt: skip
BUILDERS = ("num_classes", "in_channels", "in_chans", "width", "dropout")  # arguments of many models


def command_for(word: str, commands: Iterable[str]) -> list[str] | None:
    """The words to put in the place of one that is no command; None where there are none.

    Raises SpecError where the word is meant as a model, and names none.
    """
    from archscope.sources.spec import parse
    from archscope.zoo.catalogue import entries

    if known := COMMANDS.get(word.replace("_", "-")):
        return [known]
    if word in HELP:
        raise SpecError(f"write `{HELP[word]}`")
    if word.partition("@")[0] not in entries() and difflib.get_close_matches(word, list(commands), n=1):
        return None
    try:
        parse(word)
    except SpecError as error:
        text = str(error)
        raise SpecError(text.replace("no model is called", "no command and no model is called", 1)) from error
    return ["trace", word]


def note(word: str, words: list[str], rest: list[str]) -> None:
    """Say on stderr which command runs."""
    if sys.stderr is not None:
        line = shlex.join(["archscope", *words, *rest])
        print(f"archscope: {word!r} is no command; this runs `{line}`", file=sys.stderr)


def advice(error: Any) -> str:
    """What to write in the place of an option or an argument that is wrong or missing; empty for other errors."""
    option = getattr(error, "option_name", None)
    if option is not None:
        known = [param for param in error.ctx.command.params if option in (*param.opts, *param.secondary_opts)]
        value = f" {known[0].metavar}" if known and known[0].metavar else ""
        return f"write {option}{value}" if known else _of_option(option, error.ctx)
    if type(error).__name__ == "MissingParameter" and (example := _example(error.ctx)):
        return f"for example `{example}`"
    extra = re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", str(getattr(error, "message", "")))
    if extra is None:
        return ""
    given, words = getattr(error.ctx, "params", {}), extra[1].split()
    model, inputs = given.get("model"), given.get("input") or []
    if isinstance(model, str) and all(re.fullmatch(r"[^\W\d]\w*=.+", word) for word in words):
        return f"write {'@'.join([model, *words])}"
    if "input" in given and all(re.fullmatch(r"\(?\[?\d+[,)\]]*", word) for word in words):
        return f"write the input in one word, --input {'x'.join(re.findall(r'[0-9]+', ' '.join([*inputs, *words])))}"
    if isinstance(model, str) and model.endswith(".py") and len(words) == 1 and words[0].isidentifier():
        return f"write {model}:{words[0]}"
    if len(words) == 1 and re.search(r"\.[a-z]{2,5}$", words[0]) and "output" in given and not given["output"]:
        return f"write --output {words[0]}"
    if isinstance(model, str) and error.ctx.info_name == "trace":
        return f"`archscope table {' '.join([model, *words])}` compares several models"
    return ""


def _example(context: Any) -> str:
    """The first example in the help of a command."""
    lines = [line.strip() for line in (context.command.help or "").splitlines()]
    return next((line.partition("  ")[0] for line in lines if line.startswith(f"{context.command_path} ")), "")


def _of_option(option: str, context: Any) -> str:
    """What to write in the place of an option."""
    command = context.info_name
    word = option.replace("_", "-")
    if command in ("memory", "fit") and word in OF_A_STEP:
        return f"write {OF_A_STEP[word]}"
    if (plain := word.replace("--no-", "--")) in NEEDLESS:
        return NEEDLESS[plain]
    if instead := OPTIONS.get(word):
        known = {name for param in context.command.params for name in param.opts}
        first = instead.partition(" ")[0]
        return f"write {instead.format(command)}" if first in known or first[0] != "-" else ""
    key = word.strip("-").replace("-", "_")
    return f"write it with the model, MODEL@{key}=…" if key in BUILDERS else ""
