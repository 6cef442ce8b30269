"""The command as a stranger uses it: stdout, stderr, exit code. Numbers are read from JSON and CSV, never from a
printed table."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from archscope.cli import COMMANDS, FILES
from archscope.cli.base import FORMATS
from archscope.core.formats import RENDERERS
from archscope.core.version import __version__
from archscope.zoo.catalogue import entries

Command = Callable[..., Ran]


def from_json(ran: Ran) -> list[dict[str, Any]]:
    body = json.loads(ran.out)
    rows = body["layers"] if isinstance(body, dict) else body
    assert isinstance(rows, list)
    assert all(isinstance(row, dict) for row in rows)
    assert all(row.keys() == rows[0].keys() for row in rows)
    return rows


def from_csv(ran: Ran) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.out)))


def widest(ran: Ran) -> int:
    return max(map(len, ran.out.splitlines()))


# --------------------------------------------------------------------------------------------------------- trace


def test_trace_in_json(archscope: Command) -> None:
    ran = archscope("trace", "alexnet", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    rows = from_json(ran)
    assert sum(row["params"] for row in rows) == 60965224
    assert sum(row["macs"] for row in rows) == 724406816
    assert sum(row["neurons"] or 0 for row in rows) == 659272
    conv1 = rows[0]
    assert conv1["path"] == "conv1"
    assert conv1["output_shape"] == [1, 96, 55, 55]
    assert conv1["formula"] == "⌊(227 − 11 + 2·0)/4⌋ + 1 = 55"
    assert conv1["params_formula"] == "11·11·3·96 + 96 = 34,944"
    assert conv1["config"]["stride"] == [4, 4]
    assert conv1["agrees"] is True
    keys = "model input params trainable buffers macs flops activations receptive_field path kind config output_shape"
    assert set(keys.split()) | {"neurons", "formula", "agrees"} <= conv1.keys()


def test_trace_in_csv_says_the_same(archscope: Command) -> None:
    rows = from_json(archscope("trace", "googlenet", "--format", "json"))
    lines = from_csv(archscope("trace", "googlenet", "--format", "csv"))
    assert len(lines) == len(rows)
    assert list(lines[0]) == list(rows[0])
    for line, row in zip(lines, rows, strict=True):
        for key in ("params", "macs", "flops", "activations", "trainable", "buffers"):
            assert int(line[key]) == row[key]
        assert json.loads(line["output_shape"]) == row["output_shape"]
        assert json.loads(line["config"]) == row["config"]
        assert line["agrees"] == {True: "true", False: "false", None: ""}[row["agrees"]]


@pytest.mark.parametrize("name", entries())
def test_every_network_in_every_format(name: str, archscope: Command) -> None:
    for format in FORMATS:
        ran = archscope("trace", name, "--format", format)
        assert (ran.code, ran.err) == (0, ""), format
        assert ran.out.endswith("\n")
        assert ("\x1b" in ran.out) is False


def test_a_format_that_is_registered_is_an_option() -> None:
    code = """
from archscope.core.formats import renderer
renderer("shout")(lambda table: table.title.upper() + "!")
from archscope.cli import app
app(["trace", "lenet", "--format", "shout"])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "LENET, INPUT 1×1×28×28!" and set(FORMATS) == set(RENDERERS)


@pytest.mark.parametrize("width", [80, 100, 120, 170])
def test_a_terminal_loses_nothing_that_matters(width: int, archscope: Command) -> None:
    ran = archscope("trace", "alexnet", env={"COLUMNS": str(width)})
    assert widest(ran) <= width
    for said in ("⌊(227 − 11 + 2·0)/4⌋ + 1 = 55", "11·11·3·96 + 96 = 34,944", "11×11/4", "1×96×55×55", "659,272"):
        assert said in ran.out
    assert "Left out" not in ran.out
    assert "\n\n\n" not in ran.out


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal(width: int, archscope: Command) -> None:
    for arguments in (["trace", "alexnet"], ["trace", "alexnet", "--input", "224"], ["list"]):
        ran = archscope(*arguments, env={"COLUMNS": str(width)})
        assert widest(ran) <= width, arguments
        assert "Left out: " in ran.out
    for line in ("bench --list", "fit lenet", "sizes lenet", "verify lenet", "table lenet nin", "memory lenet"):
        ran = archscope(*line.split(), env={"COLUMNS": str(width)})
        assert ran.code == 0 and widest(ran) <= width, line


def test_input_batch_and_mode(archscope: Command) -> None:
    one = from_json(archscope("trace", "alexnet", "-f", "json"))
    eight = from_json(archscope("trace", "alexnet", "-f", "json", "--batch", "8"))
    assert sum(row["macs"] for row in eight) == 8 * sum(row["macs"] for row in one)
    assert sum(row["params"] for row in eight) == sum(row["params"] for row in one)
    assert eight == from_json(archscope("trace", "alexnet", "-f", "json", "--input", "8x3x227x227"))
    (rnn,) = from_json(archscope("trace", "rnn", "-f", "json", "--input", "10", "--batch", "4"))
    assert rnn["output_shape"][0] == [10, 4, 4]
    (first, *_) = from_json(archscope("trace", "gru-classifier", "-f", "json", "-i", "2x7:int32"))
    assert first["input"] == [2, 7]
    aux = from_json(archscope("trace", "googlenet@aux=true", "-f", "json", "--train"))
    assert {"aux1", "aux2"} <= {row["path"].partition(".")[0] for row in aux if row["output_shape"]}
    assert sum(row["params"] for row in aux) == 13378280
    assert archscope("trace", "lenet", "--eval").out == archscope("trace", "lenet").out


def test_depth(archscope: Command) -> None:
    rows = from_json(archscope("trace", "resnet50", "-f", "json", "--depth", "1"))
    assert {row["depth"] for row in rows} == {1}
    assert sum(row["params"] for row in rows) == 25557032
    assert {row["path"]: row["agrees"] for row in rows}["layer3"] is True


def test_columns(archscope: Command) -> None:
    ran = archscope("trace", "lenet", "--columns", "path, flops,receptive_field", "--format", "csv")
    assert ran.out.splitlines()[0] == "path,flops,receptive_field"
    ran = archscope("trace", "lenet", "-c", "flops", env={"COLUMNS": "80"})
    assert "FLOPs: 2·MACs" in ran.out
    assert "MACs: " not in ran.out.replace("FLOPs: 2·MACs", "")


# ---------------------------------------------------------------------------------------------- shapes that clash


def test_alexnet_at_224(archscope: Command) -> None:
    ran = archscope("trace", "alexnet", "--input", "224")
    assert ran.code == 1
    assert ran.err == (
        "archscope: fc6 (Linear) expects 9216 = 256·6·6 features, gets 6400 = 256·5·5 after pool5; "
        "inputs of side 227 to 258 work, or conv1 with padding=2, or fc6 with in_features=6400\n"
    )
    assert "(224 − 11)/4 leaves 1" in ran.out
    assert "never ran" not in ran.out
    assert "disagree" not in ran.out
    assert "✗" not in ran.out


@pytest.mark.parametrize("format", ["md", "csv", "latex", "json", "html"])
def test_a_failure_is_no_document(format: str, archscope: Command, tmp_path: Path) -> None:
    target = tmp_path / "out"
    for more in ([], ["--output", str(target)]):
        ran = archscope("trace", "alexnet", "--input", "224", "--format", format, *more)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.count("\n") == 1
    assert not target.exists()
    assert archscope("trace", "alexnet", "--input", "224", "--output", str(target)).out == ""
    assert not target.exists()


def test_channels_that_do_not_match(archscope: Command) -> None:
    ran = archscope("trace", "alexnet", "--input", "1x227x227")
    assert (ran.code, ran.out) == (1, "")
    assert "`alexnet@in_channels=1` takes 1" in ran.err


def test_a_check_that_does_not_hold(archscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from archscope.analysis.verification import _derived
    from archscope.layers import LAYERS, Derived

    _derived.cache_clear()
    monkeypatch.setitem(LAYERS, "Sigmoid", LAYERS["Sigmoid"]._replace(form=lambda *_: Derived(((7, 7),))))
    ran = archscope("trace", "lenet")
    assert (ran.code, ran.err) == (1, "")
    assert "sigmoid1: formula and observation disagree: output [[7, 7]] by formula" in ran.out
    assert "✗" in ran.out
    ran = archscope("table", "lenet", "--format", "json")
    assert (ran.code, from_json(ran)[0]["verified"]) == (1, False)
    _derived.cache_clear()


# --------------------------------------------------------------------------------------------------------- table


def test_table_in_json(archscope: Command) -> None:
    ran = archscope("table", "--models", "alexnet,vgg*", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    rows = from_json(ran)
    assert [row["model"] for row in rows][0] == "alexnet"
    assert len(rows) == 1 + sum(name.startswith("vgg") for name in entries())
    alexnet = rows[0]
    assert alexnet["input"] == [1, 3, 227, 227]
    assert (alexnet["params"], alexnet["macs"], alexnet["depth"]) == (60965224, 724406816, 8)
    assert alexnet["verified"] is True
    assert alexnet["error"] is None


def test_table_sorts(archscope: Command) -> None:
    def order(*more: str) -> list[str]:
        return [row["model"] for row in from_json(archscope("table", "lenet", "nin", "alexnet", "-f", "json", *more))]

    assert order() == ["lenet", "nin", "alexnet"]
    assert order("--sort", "params") == ["lenet", "nin", "alexnet"]
    assert order("--sort", "-macs") == ["nin", "alexnet", "lenet"]
    assert order("--sort=-model") == ["nin", "lenet", "alexnet"]
    assert order("--sort", "trainable", "--columns", "model") == ["lenet", "nin", "alexnet"]


def test_a_model_that_fails_leaves_the_others(archscope: Command) -> None:
    ran = archscope("table", "-m", "lenet,alexnet,rnn", "--input", "28", "--format", "json")
    assert ran.code == 1
    rows = from_json(ran)
    assert [row["verified"] for row in rows] == [True, False, True]
    assert [row["params"] for row in rows] == [61706, None, 40]
    assert "does not fit" in rows[1]["error"]
    assert "alexnet: " in archscope("table", "-m", "lenet,alexnet,rnn", "--input", "28").out


@pytest.mark.parametrize("format", FORMATS)
def test_table_in_every_format(format: str, archscope: Command) -> None:
    ran = archscope("table", "-m", "lenet,alexnet,char-*", "--format", format)
    assert (ran.code, ran.err) == (0, "")
    assert "lenet" in ran.out


def test_the_caption_states_the_conventions(archscope: Command) -> None:
    for format in ("terminal", "md", "html", "latex"):
        out = archscope("table", "lenet", "--format", format).out
        for said in ("multiply", "FLOPs", "Input: each model", f"archscope {__version__}, torch 2"):
            assert said in out, format


# ---------------------------------------------------------------------------------------------------------- list


def test_list(archscope: Command) -> None:
    rows = from_json(archscope("list", "--format", "json"))
    assert [row["name"] for row in rows] == list(entries())
    assert rows[2]["params"] == 60965224
    assert [row["name"] for row in from_json(archscope("list", "resnet18*", "nin", "-f", "json"))] == [
        "resnet18",
        "resnet18-d2l",
        "nin",
    ]
    assert archscope("list").out.splitlines()[0].startswith("Name")


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace", "alexnt"], "did you mean alexnet?"),
        (["trace", "alexnet@in_chanels=1"], "did you mean in_channels?"),
        (["trace", "alexnet@in_channels=x"], "in_channels is a whole number"),
        (["trace", "alexnet@in_channels=0"], "must be a number above 0"),
        (["trace", "alexnet@in_channels=99999999999999"], "fits no machine"),
        (["trace", ""], "no model was named"),
        (["trace", "vgg*"], "one model at a time"),
        (["trace"], "Missing argument 'MODEL': for example `archscope trace alexnet`; see"),
        (["diff"], "for example `archscope diff resnet50 resnet50-v1.5`; see `archscope diff --help`"),
        (["trace", "alexnet", "--inputs"], "requires an argument: write --inputs SHAPE; see `archscope trace --help`"),
        (["trace", "alexnet", "-d"], "requires an argument: write -d N; see `archscope trace --help`"),
        (["trace", "alexnet", "--eval=3"], "does not take a value: write --eval; see `archscope trace --help`"),
        (["--version=3"], "does not take a value: write --version; see `archscope --help`"),
        (["trace", "lenet", "nin"], "unexpected extra argument"),
        (["trace", "lenet", "--bogus"], "No such option"),
        (["trce"], "No such command 'trce'. Did you mean 'trace'"),
        (["trce"], "? See `"),
        (["trace", "alexnet", "--input", "0"], "every side is at least 1"),
        (["trace", "alexnet", "--input", "-5"], "every side is at least 1"),
        *((["trace", "alexnet", "--input", text], "is not an input") for text in ("abc", "3x", "1e9", "227.5", "")),
        (["trace", "alexnet", "--input", "999999999"], "fits no machine"),
        (["trace", "alexnet", "--input", "1x2x3x4x5"], "has 5 axes"),
        (["trace", "alexnet", "--input", "227:flot32"], "did you mean float32"),
        (["trace", "lenet", "--batch", "0"], "--batch is a whole number from 1 on, not '0'"),
        (["trace", "lenet", "--batch", "x"], "--batch is a whole number from 1 on, not 'x'"),
        (["trace", "lenet", "--batch", "9" * 20], "fits no machine"),
        (["trace", "lenet", "--depth", "0"], "--depth is a whole number from 1 on, not '0'"),
        (["trace", "lenet", "--depth", "-1"], "--depth is a whole number"),
        (["trace", "lenet", "--columns", "macz"], "unknown column 'macz': did you mean macs?"),
        (["trace", "lenet", "--columns", "foo"], "choose from path, kind"),
        (["trace", "lenet", "--columns", ""], "--columns names no column"),
        (["trace", "lenet", "--columns", "path,path"], "column 'path' is named twice"),
        (["trace", "lenet", "--format", "foo"], "unknown format 'foo': choose from terminal, "),
        (["trace", "lenet", "--output", "/nonexistent/x"], "cannot write /nonexistent/x"),
        (["trace", "lenet", "--output", "/"], "cannot write /: it is a folder"),
        (["trace", "lenet", "--output", ""], "--output names no file"),
        (["table", "--models", "zzz*"], "no model matches 'zzz*'"),
        (["table", "--models", "alexnet,nope"], "no model is called 'nope'"),
        (["table", "--models", ""], "no model was named"),
        (["table", "-m", "lenet", "--sort", "foo"], "unknown column 'foo'"),
        (["table", "-m", "lenet", "--sort", ""], "--sort names no column"),
        (["table", "-m", "lenet", "--columns", "foo"], "unknown column 'foo'"),
        (["table", "-m", "lenet", "--input", "abc"], "is not an input"),
        (["list", "nope"], "no model is called 'nope'"),
        (["list", "--columns", "pramas"], "unknown column 'pramas': did you mean params?"),
    ],
)
def test_what_cannot_be_understood(arguments: list[str], said: str, archscope: Command) -> None:
    ran = archscope(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("archscope: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 400
    assert "Traceback" not in ran.err


def test_a_failure_without_layers_is_said_once(archscope: Command) -> None:
    ran = archscope("trace", "alexnet", "--input", "3,224")
    says = "conv1 (Conv2d) has a window of 11, which does not fit 3 of 1×3×3×224; inputs of side 227 to 258 work"
    assert ran == Ran(1, "", f"archscope: {says}\n")


def test_libraries_that_are_not_there_are_named(archscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = ("timm", "transformers")
    monkeypatch.setattr("archscope.sources.other_names._names", dict)
    monkeypatch.setattr(
        "archscope.sources.other_names.find_spec", lambda name: None if name in absent else find_spec(name)
    )
    ran = archscope("trace", "gpt2")
    assert ran.code == 2 and ran.err.endswith("; timm and transformers bring more: pip install timm transformers\n")


def test_nothing_is_done_before_the_options_are_understood(archscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def untouched(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a model was traced")

    monkeypatch.setattr("archscope.tracing.tracer.trace", untouched)
    monkeypatch.setattr("archscope.report.comparison.result_of", untouched)
    for more in (["--columns", "foo"], ["--format", "foo"], ["--output", "/"], ["--batch", "0"]):
        assert archscope("trace", "lenet", *more).code == 2
        assert archscope("table", "lenet", *more).code == 2
    assert archscope("table", "lenet", "--sort", "foo").code == 2


def test_a_bug_is_one_line_too(archscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("of all things\nand more")

    monkeypatch.setattr("archscope.tracing.tracer.trace", broken)
    ran = archscope("trace", "lenet")
    assert ran.code == 1
    assert ran.err == (
        "archscope: this is a bug: ZeroDivisionError: of all things; please report it with what "
        "`ARCHSCOPE_DEBUG=1 archscope trace lenet` prints\n"
    )
    monkeypatch.setenv("ARCHSCOPE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        from archscope.cli.group import _message_of

        _message_of(ZeroDivisionError("of all things"))


def test_an_interruption(archscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("archscope.tracing.tracer.trace", stopped)
    ran = archscope("trace", "lenet")
    assert ran == Ran(130, "", "archscope: interrupted\n")


# ------------------------------------------------------------------------------------------------ help and version


def test_help_and_version(archscope: Command) -> None:
    assert archscope("--version") == Ran(0, f"archscope {__version__}\n", "")
    for arguments in (["--help"], ["list", "--help"], ["trace", "--help"], ["table", "--help"]):
        ran = archscope(*arguments)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith("Usage: archscope")
    ran = archscope()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: archscope")


def test_the_table_of_commands() -> None:
    """Every command of every file stands in it, and `--help` prints it without importing one of the files."""
    found = {}
    for file in set(FILES.values()):
        for command in import_module(f"archscope.cli.{file}").app.registered_commands:
            found[command.name or command.callback.__name__] = file
    assert found == FILES
    code = "import sys; from archscope.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *told, modules = ran.stdout.splitlines()
    assert not {f"archscope.cli.{file}" for file in FILES.values()} & set(modules.split())
    for task, commands in COMMANDS.items():
        assert f"{task}:" in told
        for name, (_, text) in commands.items():
            assert [line for line in told if line.split() == [name, *text.split()]], name


# --------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("format", FORMATS)
def test_output(format: str, archscope: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    shown = archscope("trace", "lenet", "--format", format)
    ran = archscope("trace", "lenet", "--format", format, "--output", str(target), env={"COLUMNS": "80"})
    assert ran == Ran(0, "", "")
    assert target.read_text(encoding="utf-8") == shown.out
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("command", "name", "begins"),
    [
        ("trace", "a.csv", "path,kind,"),
        ("trace", "a.md", "**lenet, input 1×1×28×28**"),
        ("table", "a.tex", "% \\usepackage{booktabs"),
        ("table", "a.HTML", '<div class="archscope">'),
        ("list", "a.json", "["),
        ("trace", "a.txt", "lenet, input 1×1×28×28"),
        ("explain", "a.tex", "\\documentclass"),
        ("explain", "a.csv", "lenet, input 1×1×28×28"),  # not one of its formats
        ("sizes", "a.csv", "quantity,said,"),
    ],
)
def test_the_name_of_a_file_says_its_format(
    command: str, name: str, begins: str, archscope: Command, tmp_path: Path
) -> None:
    target = tmp_path / name
    assert archscope(command, "lenet", "--output", str(target)).code == 0
    assert target.read_text(encoding="utf-8").startswith(begins)
    assert archscope(command, "lenet", "--format", "json", "--output", str(target)).code == 0
    json.loads(target.read_text(encoding="utf-8"))


def test_a_file_is_written_whole_or_not_at_all(
    archscope: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")

    def full(old: Any, new: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("archscope.core.files.os.replace", full)
    ran = archscope("trace", "lenet", "--format", "csv", "--output", str(target))
    assert (ran.code, ran.err) == (2, f"archscope: cannot write {target}: No space left on device\n")
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


# --------------------------------------------------------------------------------------- the terminal and its ends


def test_colour(archscope: Command) -> None:
    assert "\x1b" not in archscope("list").out
    assert "\x1b[1m" in archscope("list", env={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in archscope("list", env={"FORCE_COLOR": "0"}).out
    assert "\x1b" not in archscope("list", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out
    assert "\x1b" not in archscope("list", "-f", "md", env={"FORCE_COLOR": "1"}).out


def shell(command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `archscope` is the installed command."""
    script = f'set -o pipefail; archscope() {{ "{sys.executable}" -m archscope "$@"; }}; {command}'
    whole = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")} | env
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, encoding="utf-8", env=whole)


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
class TestPipes:
    def test_head(self) -> None:
        ran = shell("archscope list | head -1")
        assert "Traceback" not in ran.stderr
        assert ran.stdout.startswith("Name")
        assert len(ran.stdout.splitlines()) == 1

    @pytest.mark.parametrize("command", ["list", "--help", "--version", "list --format json"])
    def test_a_closed_pipe(self, command: str) -> None:
        ran = shell(f"archscope {command} | true")
        assert ran.returncode == 2
        assert ran.stderr == "archscope: the output was closed before all was written\n"

    def test_a_drawing_on_a_terminal(self) -> None:
        import pty

        terminal, end = pty.openpty()
        words = [sys.executable, "-m", "archscope", "draw", "lenet"]
        ran = subprocess.run(words, stdout=end, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        os.close(end)
        os.close(terminal)
        assert (ran.returncode, ran.stderr) == (2, "archscope: a picture needs a file: --output lenet.svg\n")
        assert shell("archscope draw lenet | cat").stdout.startswith("<svg ")

    def test_a_closed_stdout(self) -> None:
        ran = shell("archscope list >&-")
        assert (ran.returncode, ran.stderr) == (2, "archscope: there is no standard output to write to\n")

    def test_a_closed_stderr(self) -> None:
        assert shell("archscope trace nope 2>&-").returncode == 2

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk(self) -> None:
        for command in ("list", "--help"):
            ran = shell(f"archscope {command} >/dev/full")
            assert (ran.returncode, ran.stderr) == (2, "archscope: cannot write the output: No space left on device\n")

    def test_a_terminal_without_such_characters(self) -> None:
        ran = shell("archscope list alexnet", PYTHONIOENCODING="ascii")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "1x3x227x227" in ran.stdout
        assert "?" not in ran.stdout
        ran = shell("archscope trace basic-cnn", PYTHONIOENCODING="ascii")
        assert "[(28 - 5 + 2*0)/1] + 1 = 24" in ran.stdout
        assert "?" not in ran.stdout

    def test_completion(self) -> None:
        main = "import sys; sys.argv[0] = 'archscope'; from archscope.cli import main; main()"
        words = {"COMP_WORDS": "archscope trace vgg16", "COMP_CWORD": "2", "_ARCHSCOPE_COMPLETE": "complete_bash"}
        ran = shell(f'"{sys.executable}" -c "{main}"', **words)
        assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, ["vgg16-c", "vgg16"], "")
