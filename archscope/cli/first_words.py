"""What people type who know other tools: a model without a command, `summary`, `--input-size 1 3 224 224`."""

import difflib
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from archscope.core.errors import SpecError

COMMANDS = {  # another word -> the command
    **dict.fromkeys("summary summarize summarise info show profile flops macs params layers doctor".split(), "trace"),
    **dict.fromkeys("models ls".split(), "list"),
    **dict.fromkeys("compare benchmark-models".split(), "table"),
    **dict.fromkeys("visualize visualise graph view picture".split(), "draw"),
    **dict.fromkeys("train fit".split(), "bench"),
}  # fmt: skip
OPTIONS = {  # another option -> what to write
    **dict.fromkeys("--input-size --input_size --input-shape --input_shape --shape --size --img-size".split(),
                    "--input 1x3x224x224"),
    **dict.fromkeys("--batch-size --batch_size --bs".split(), "--batch N"),
    **dict.fromkeys("--col-names --col_names --cols --column".split(), "--columns KEYS"),
    **dict.fromkeys("--max-depth --max_depth --level".split(), "--depth N"),
    **dict.fromkeys("--dtype --dtypes --precision".split(), "the dtype with the input, --input 1x3x224x224:float16"),
    **dict.fromkeys("--out --output-file --save-path --file".split(), "--output FILE"),
    **{f"--{form}": f"--format {form}" for form in ("json", "csv", "md", "latex", "html")},
    **{f"--{form}": f"--output FILE.{form}" for form in ("svg", "png", "pdf")},
    "--markdown": "--format md", "--mode": "--train or --eval",
    **dict.fromkeys("--model --arch --network --net".split(), "the model without an option, `archscope trace alexnet`"),
}  # fmt: skip
NEEDLESS = {
    **dict.fromkeys("--device --cuda --gpu --cpu".split(), "no device is needed, because nothing is computed"),
    **dict.fromkeys("--pretrained --weights --checkpoint".split(),
                    "no weights are needed, because no number depends on them"),
    **dict.fromkeys("--verbose --quiet".split(), "--columns sets what is shown"),
}  # fmt: skip


def command_for(word: str, commands: Iterable[str]) -> list[str] | None:
    """The words to put in the place of one that is no command; None where there are none.

    Raises SpecError where the word is meant as a model, and names none.
    """
    from archscope.sources.spec import parse
    from archscope.zoo.catalogue import entries

    if word in COMMANDS:
        return [COMMANDS[word]]
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
    """What to write in the place of an option or an argument that a command does not have; empty for other errors."""
    option = getattr(error, "option_name", None)
    if option is not None:
        return NEEDLESS.get(option, "") or (f"write {OPTIONS[option]}" if option in OPTIONS else "")
    extra = re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", str(getattr(error, "message", "")))
    if extra is None:
        return ""
    given, words = getattr(error.ctx, "params", {}), extra[1].split()
    model, inputs = given.get("model"), given.get("input") or []
    if inputs and all(re.fullmatch(r"\(?\[?\d+[,)\]]*", word) for word in words):
        return f"write the input in one word, --input {'x'.join(re.findall(r'[0-9]+', ' '.join([*inputs, *words])))}"
    if isinstance(model, str) and model.endswith(".py") and len(words) == 1 and words[0].isidentifier():
        return f"write {model}:{words[0]}"
    if len(words) == 1 and re.search(r"\.[a-z]{2,5}$", words[0]) and "output" in given and not given["output"]:
        return f"write --output {words[0]}"
    if isinstance(model, str) and error.ctx.info_name == "trace":
        return f"`archscope table {' '.join([model, *words])}` compares several models"
    return ""
