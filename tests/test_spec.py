"""What a user types: models, lists of models, arguments, inputs."""

import pickle
from pathlib import Path

import pytest

from archscope import SpecError, TraceError, load
from archscope.core.table import did_you_mean, unknown
from archscope.sources import kinds
from archscope.sources.inputs import DTYPES, Input, check_input, parse_input
from archscope.sources.loading import input_of
from archscope.sources.source import SOURCES, Source, every_source, prefixes, source_and_name, source_of
from archscope.sources.spec import expand, parse
from archscope.zoo.catalogue import entries

IMAGE = Input((1, 3, 224, 224))
LETTERS = Input((1, 5), "int64")
STEPS = Input((5, 1, 4))


# ------------------------------------------------------------------------------------------------------- models


def test_a_name_and_its_arguments() -> None:
    spec = parse(" mobilenet-v1@width=0.5@num_classes=10 ")
    assert (spec.source.name, spec.name) == ("zoo", "mobilenet-v1")
    assert spec.arguments == {"width": 0.5, "num_classes": 10}
    assert spec.text == "mobilenet-v1@width=0.5@num_classes=10"
    assert parse("zoo:lenet").name == "lenet"


def test_a_comma_separates_arguments_too(tmp_path: Path) -> None:
    """The comma of a list, of brackets and of quotes belongs to the value."""
    assert parse("mobilenet-v1@width=0.5, num_classes=10").text == "mobilenet-v1@width=0.5@num_classes=10"
    (tmp_path / "net.py").write_text("def net(a=None, b=None, c=None):\n    pass\n")
    for text, arguments in {
        "a=x,b=2": {"a": "x", "b": 2},
        "a=[1,2],b=(3,4)@c=x": {"a": [1, 2], "b": (3, 4), "c": "x"},
        "a=x,y": {"a": "x,y"},
        "a=[Down,Up,none,2],b=[MASK]": {"a": ["Down", "Up", None, 2], "b": "[MASK]"},
        "a='x,b=2'": {"a": "x,b=2"},
    }.items():
        assert parse(f"{tmp_path}/net.py:net@{text}").arguments == arguments
    specs = expand(["lenet@in_channels=3,num_classes=7,alexnet"])
    assert [spec.arguments for spec in specs] == [{"in_channels": 3, "num_classes": 7}, {}]


@pytest.mark.parametrize("name", entries())
def test_every_network_is_named_by_its_name(name: str) -> None:
    assert parse(name).name == name
    keys = entries()[name].keys
    written = "".join(f"@{key}={value}" for key, value in keys.items())
    assert parse(name + written).arguments == keys


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("alexnet@in_channels=1", 1),
        ("alexnet@in_channels=1_0", 10),
        ("mobilenet-v1@width=0.5", 0.5),
        ("mobilenet-v1@width=1", 1.0),
        ("mobilenet-v1@activation=relu6", "relu6"),
        *((f"googlenet@aux={word}", True) for word in ("true", "True", "yes", "on", "1")),
        *((f"googlenet@aux={word}", False) for word in ("false", "FALSE", "no", "off", "0")),
    ],
)
def test_an_argument_has_the_type_of_its_default(text: str, value: object) -> None:
    (found,) = parse(text).arguments.values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alexnt", "no model is called 'alexnt': did you mean alexnet? (`archscope list` shows all)"),
        ("resnet", "did you mean resnet18, resnet34 or resnet50?"),
        ("AlexNet", "did you mean alexnet, "),
        ("qqqq", "no model is called 'qqqq'; `archscope list` shows all"),
        ("", "no model was named"),
        ("  ", "no model was named"),
        ("vgg*", "one model at a time, not 'vgg*'; `archscope table --models 'vgg*'` takes several"),
        ("lenet,nin", "one model at a time"),
        ("torchvison:resnet50", "no package 'torchvison': did you mean torchvision?"),
        ("nets.py", "there is no file nets.py"),
        ("a b:c", "'a b:c' names no model: write NAME, torchvision:NAME, timm:NAME, transformers:CLASS, "),
        ("alexnet@in_chanels=1", "alexnet has no key 'in_chanels': did you mean in_channels? (it has in_channels,"),
        ("alexnet@zzz=1", "alexnet has no key 'zzz'; it has in_channels, num_classes"),
        ("alexnet@in_channels=x", "in_channels is a whole number (its default is 3), not 'x'"),
        ("alexnet@in_channels=1.5", "in_channels is a whole number"),
        ("alexnet@in_channels=True", "in_channels is a whole number"),
        ("alexnet@in_channels=((1", "in_channels is a whole number"),
        ("mobilenet-v1@width=abc", "width is a number (its default is 1.0), not 'abc'"),
        ("mobilenet-v1@width=True", "width is a number"),
        (f"mobilenet-v1@width=1{'0' * 400}", "width is a number"),
        ("googlenet@aux=maybe", "aux is true or false, not 'maybe'"),
        ("alexnet@", "an argument of 'alexnet@' is empty; write alexnet@key=value"),
        ("alexnet@=3", "is empty"),
        ("alexnet@in_channels", "in_channels has no value in 'alexnet@in_channels'; write alexnet@in_channels=3"),
        ("alexnet@in_channels=", "in_channels has no value"),
        ("alexnet@in_channels=1@in_channels=2", "in_channels is set twice"),
    ],
)
def test_what_cannot_be_understood_is_told(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_lists() -> None:
    def names(*texts: str) -> list[str]:
        return [spec.text for spec in expand(texts)]

    assert names("all") == list(entries())
    assert names("lenet, alexnet ,lenet") == ["lenet", "alexnet"]
    assert names("alexnet", "lenet,nin") == ["alexnet", "lenet", "nin"]
    assert names("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert names("nin,all")[:2] == ["nin", "lenet"]
    assert sorted(names("nin,all")) == sorted(entries())
    assert names("resnet18*@in_channels=1") == ["resnet18@in_channels=1", "resnet18-d2l@in_channels=1"]
    assert names("zoo:vgg16*") == ["zoo:vgg16-c", "zoo:vgg16"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zzz*", "no model matches 'zzz*'"),
        ("VGG*", "no model matches 'VGG*'"),
        ("", "no model was named"),
        (" , ", "no model was named"),
        ("alexnet,nope", "no model is called 'nope'"),
        ("vgg*@bar=1", "vgg11 has no key 'bar'"),
        ("tim:*", "there is no source of models and no package 'tim': did you mean timm?"),
    ],
)
def test_lists_that_name_nothing(text: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        expand([text])
    assert said in str(caught.value)


def test_a_source_is_entered_once() -> None:
    source_of("zoo")
    with pytest.raises(ValueError, match="the source 'zoo' is registered twice"):

        @SOURCES.register("zoo")
        class Again(Source):
            pass


@pytest.mark.parametrize(
    ("head", "source", "name"),
    [
        ("lenet", "zoo", "lenet"),
        ("resnet50-v1.5", "zoo", "resnet50-v1.5"),
        ("timm:vit_*", "timm", "vit_*"),
        ("some@where/nets.py:Net", "file", "some@where/nets.py:Net"),
        ("package.models:build", "module", "package.models:build"),
        ("run:1.json", "trace", "run:1.json"),
        ("C:\\x\\program.pt2", "exported", "C:\\x\\program.pt2"),
    ],
)
def test_which_source_a_name_belongs_to(head: str, source: str, name: str) -> None:
    found, there = source_and_name(head)
    assert (found.name, there) == (source, name)


def test_every_file_of_the_folder_is_a_source() -> None:
    files = {path.stem for path in Path(kinds.__path__[0]).glob("[!_]*.py")}
    assert files <= {each.name for each in every_source()}
    assert prefixes()[0] == "zoo" and set(prefixes()) >= {"torchvision", "timm", "transformers"}
    assert all(source_of(name).help for name in files)


def test_a_spec_goes_to_another_process() -> None:
    spec = parse("mobilenet-v1@width=0.5")
    copied = pickle.loads(pickle.dumps(spec))
    assert copied == spec and copied.source is spec.source


def test_the_nearest_words() -> None:
    assert did_you_mean("macz", ["macs", "params"]) == "did you mean macs?"
    assert did_you_mean("VGG", ["vgg11", "vgg13", "nin"]) == "did you mean vgg11 or vgg13?"
    assert did_you_mean("", ["vgg11"]) == ""
    assert did_you_mean("zzz", ["vgg11"]) == ""
    assert unknown("column", "zzz", ["a", "b"]) == "unknown column 'zzz': choose from a, b"


# ------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("text", "default", "layout", "shape", "dtype"),
    [
        (None, IMAGE, "nchw", (1, 3, 224, 224), "float32"),
        ("227", IMAGE, "nchw", (1, 3, 227, 227), "float32"),
        ("224x300", IMAGE, "nchw", (1, 3, 224, 300), "float32"),
        ("1x96x96", IMAGE, "nchw", (1, 1, 96, 96), "float32"),
        ("8×3×32×32", IMAGE, "nchw", (8, 3, 32, 32), "float32"),
        (" 8X3X32X32 ", IMAGE, "nchw", (8, 3, 32, 32), "float32"),
        ("8x3x32x32:float16", IMAGE, "nchw", (8, 3, 32, 32), "float16"),
        ("227:bfloat16", IMAGE, "nchw", (1, 3, 227, 227), "bfloat16"),
        ("128", LETTERS, "nt", (1, 128), "int64"),
        ("4x128", LETTERS, "nt", (4, 128), "int64"),
        ("1x128:int32", LETTERS, "nt", (1, 128), "int32"),
        ("3,227,227", IMAGE, "nchw", (1, 3, 227, 227), "float32"),
        ("(1,3, 227, 227)", IMAGE, "nchw", (1, 3, 227, 227), "float32"),
        ("(1, 3, 227, 227,):float16", IMAGE, "nchw", (1, 3, 227, 227), "float16"),
        ("[1, 3, 227, 227]:torch.float16", IMAGE, "nchw", (1, 3, 227, 227), "float16"),
        ("torch.Size([1, 3, 227, 227])", IMAGE, "nchw", (1, 3, 227, 227), "float32"),
        ("(227,)", IMAGE, "nchw", (1, 3, 227, 227), "float32"),
        ("10", STEPS, "tnc", (10, 1, 4), "float32"),
        ("10x2x4", STEPS, "tnc", (10, 2, 4), "float32"),
    ],
)
def test_inputs(text: str | None, default: Input, layout: str, shape: tuple[int, ...], dtype: str) -> None:
    assert parse_input(text, default, layout) == Input(shape, dtype)


def test_the_batch() -> None:
    assert parse_input("32", IMAGE, "nchw", 16).shape == (16, 3, 32, 32)
    assert parse_input("8x3x32x32", IMAGE, "nchw", 16).shape == (16, 3, 32, 32)
    assert parse_input(None, STEPS, "tnc", 16).shape == (5, 16, 4)
    with pytest.raises(SpecError, match="the batch is at least 1, not 0"):
        parse_input(None, IMAGE, "nchw", 0)
    with pytest.raises(SpecError, match="has no batch axis"):
        parse_input(None, Input((3, 4)), "hw", 2)


def test_in_channels_is_the_channels_of_the_input() -> None:
    assert input_of(parse("alexnet@in_channels=1")).shape == (1, 1, 227, 227)
    assert input_of(parse("alexnet@in_channels=1"), "3x227x227").shape == (1, 3, 227, 227)


@pytest.mark.parametrize(
    "text", ["", "x", "abc", "3x", "x3", "1e9", "227.5", "3,,227", "3x 2 2", "(3", "3)", "(3 3)", "9" * 5000, "1:2:3"]
)
def test_no_inputs(text: str) -> None:
    with pytest.raises(SpecError):
        check_input(text)


@pytest.mark.parametrize("text", ["0", "-5", "3x0x3", "3x-1x3"])
def test_sides_are_at_least_1(text: str) -> None:
    with pytest.raises(SpecError, match="every side is at least 1"):
        check_input(text)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(SpecError, match="'1x3x2x2x2' has 5 axes; the model takes 4, such as 1x3x224x224"):
        parse_input("1x3x2x2x2", IMAGE, "nchw")
    with pytest.raises(SpecError, match="unknown dtype 'flot32': did you mean float32"):
        check_input("3x3:flot32")
    with pytest.raises(SpecError, match="fits no machine"):
        parse_input("99999999", IMAGE, "nchw")
    assert "qint8" not in DTYPES


def test_load_takes_what_python_has() -> None:
    for given in (32, (1, 1, 32, 32), [1, 1, 32, 32], "32", "1x1x32x32"):
        _, (tensor,) = load("lenet", given)
        assert tuple(tensor.shape) == (1, 1, 32, 32)
        assert tensor.device.type == "meta"
    _, (letters,) = load("gru-classifier", batch=3)
    assert (tuple(letters.shape), str(letters.dtype)) == ((3, 10), "torch.int64")
    model, _ = load("alexnet")
    assert all(p.is_meta for p in model.parameters())


def test_a_value_that_the_builder_refuses() -> None:
    with pytest.raises(SpecError, match="alexnet@in_channels=0: in_channels must be a number above 0"):
        load("alexnet@in_channels=0")
    with pytest.raises(SpecError, match="depth must be one of"):
        load("resnet50@depth=19")
    with pytest.raises((SpecError, TraceError), match="alexnet@num_classes"):
        load(f"alexnet@num_classes={10**30}")
