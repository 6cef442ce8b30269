"""Arguments of a user's own builder: nested, typed, from files."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from archscope import SpecError, load
from archscope.sources.nested import Settings, read
from archscope.sources.spec import expand, parse
from archscope.sources.watch import watched

NETS = """
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple, Optional
from torch import nn

class Act(Enum):
    RELU = "relu"

@dataclass
class Head:
    out: int = 10
    bias: bool = True

@dataclass(frozen=True)
class Config:
    hidden: int = 8
    layers: tuple[int, ...] = (4,)
    head: Head = field(default_factory=lambda: Head(out=3))
    heads: list[Head] = field(default_factory=list)
    drop: float = 0.5
    act: Act = Act.RELU
    name: Optional[str] = None

class Pair(NamedTuple):
    a: int
    b: int = 2

class Plain:
    def __init__(self, width, depth=2):
        self.width, self.depth = width, depth

DEFAULT = Config(hidden=99)
SPACE = SimpleNamespace(a=1, b=2)
SIDES = {"a": 1, "b": {"c": 2, "d": 3}}

class Holds(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

def typed(config: Config): return Holds(config)
def optional(config: "Config | None" = None): return Holds(config)
def default(config=DEFAULT): return Holds(config)
def space(config=SPACE): return Holds(config)
def sides(config=SIDES): return Holds(config)
def plain(config: Plain): return Holds(config)
def pair(config: Pair): return Holds(config)
def pair_default(config=Pair(5, 6)): return Holds(config)
def mapping(config: dict[str, int]): return Holds(config)
def free(config): return Holds(config)
def text(path: str, other="a.yaml"): return Holds((path, other))
def layers(layers: tuple[int, ...] = (1,), act: Act = Act.RELU, loose: int = None): return Holds((layers, act, loose))
def untyped(layers=None): return Holds(layers)
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("nested") / "nested_nets.py"
    file.write_text(NETS)
    return file


def value(nets: Path, text: str) -> Any:
    return load(f"{nets}:{text}", (1, 2))[0].value


def module(nets: Path) -> Any:
    from archscope.sources.source import source_of

    return source_of("file").holder(str(nets))


def test_a_list_of_any_depth(nets: Path) -> None:
    assert value(nets, "untyped@layers=[64,128]") == [64, 128]
    assert value(nets, "untyped@layers=[[1,2],[3,(4,5)]]") == [[1, 2], [3, (4, 5)]]
    (first, second) = expand([f"{nets}:untyped@layers=[[1,2],[3,4]],{nets}:untyped@layers={{'a':1,'b':2}}"])
    assert first.arguments == {"layers": [[1, 2], [3, 4]]}
    assert second.arguments == {"layers": {"a": 1, "b": 2}}


def test_a_value_is_what_its_annotation_says(nets: Path) -> None:
    act = module(nets).Act.RELU
    assert value(nets, "layers@layers=[64,128]@act=relu@loose=none") == ((64, 128), act, None)
    assert value(nets, "layers@layers=auto") == ("auto", act, None)  # the builder judges, as in Python


def test_a_field_of_an_argument(nets: Path) -> None:
    m = module(nets)
    assert value(nets, "typed@config.hidden=512") == m.Config(hidden=512)
    assert value(nets, "optional@config.drop=1") == m.Config(drop=1.0)
    assert type(value(nets, "optional@config.drop=1").drop) is float
    assert value(nets, "optional") is None
    assert value(nets, "optional@config=none") is None
    # the field `head` is made with out=3, and the rest of it is kept
    assert value(nets, "typed@config.head.bias=false@config.layers=[5,6]") == m.Config(
        layers=(5, 6), head=m.Head(out=3, bias=False)
    )
    assert value(nets, "typed@config={'heads':[{'out':1},{'bias':False}]}").heads == [m.Head(1), m.Head(bias=False)]
    assert vars(value(nets, "plain@config.width=7")) == {"width": 7, "depth": 2}
    assert value(nets, "pair@config.a=7") == m.Pair(7, 2)
    assert value(nets, "mapping@config.a=7") == {"a": 7}


def test_a_default_is_copied_and_left_as_it_was(nets: Path) -> None:
    m = module(nets)
    assert value(nets, "default@config.drop=0.25") == m.Config(hidden=99, drop=0.25)
    assert value(nets, "pair_default@config.b=7") == m.Pair(5, 7)
    assert vars(value(nets, "space@config.b=5")) == {"a": 1, "b": 5}
    assert value(nets, "sides@config.b.c=5") == {"a": 1, "b": {"c": 5, "d": 3}}
    assert value(nets, "sides@config={'z':1}") == {"z": 1}
    assert m.Config(hidden=99) == m.DEFAULT
    assert vars(m.SPACE) == {"a": 1, "b": 2}
    assert m.SIDES == {"a": 1, "b": {"c": 2, "d": 3}}


def test_without_annotation_keys_are_attributes(nets: Path) -> None:
    found = value(nets, "free@config.hidden=3@config.more.k=[4]")
    assert (found.hidden, found["hidden"], found.more.k) == (3, 3, [4])
    assert isinstance(found, Settings)
    assert not hasattr(found, "hiden")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '{"hidden": 6, "layers": [3, 2], "head": {"bias": false}, "drop": 0.001}'),
        ("c.toml", "hidden = 6\nlayers = [3, 2]\ndrop = 1e-3\n[head]\nbias = false\n"),
        ("c.yaml", "hidden: 6\nlayers: [3, 2]\nhead: {bias: false}\ndrop: 1e-3\n"),  # PyYAML reads 1e-3 as text
        ("c.yml", "hidden: 6\nlayers:\n- 3\n- 2\nhead:\n  bias: no\ndrop: 0.001\n"),
    ],
)
def test_a_file_is_the_argument_and_a_dependency(nets: Path, tmp_path: Path, name: str, content: str) -> None:
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml", reason="PyYAML is optional")
    file = tmp_path / name
    file.write_text(content)
    m = module(nets)
    with watched() as seen:
        found = value(nets, f"typed@config={file}")
    expected = m.Config(hidden=6, layers=(3, 2), head=m.Head(out=3, bias=False), drop=0.001)
    assert found == expected
    assert ("file", str(file)) in seen.names
    assert value(nets, f"typed@config={file}@config.hidden=9").hidden == 9
    assert value(nets, f"free@config={file}").head.bias is False
    assert value(nets, f"text@path={file}@other={file}") == (str(file), str(file))
    assert value(nets, f"free@config='{file}'") == str(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("typed@config.hiden=3", "config (Config) has no field 'hiden': did you mean hidden?"),
        ("typed@config.head.ot=3", "config.head (Head) has no field 'ot': did you mean out?"),
        ("space@config.bb=3", "config (SimpleNamespace) has no field 'bb'"),
        ("typed@config.hidden=abc", "config.hidden is int, not 'abc'"),
        ("typed@config.layers=[1,'b']", "config.layers[1] is int, not 'b'"),
        ("typed@config.hidden.x=1", "config.hidden is int, so it has no field 'x'"),
        ("untyped@layers=3@layers.x=1", "layers is 3, so it has no field 'x' to set"),
        ("typed@config.head.out=1@config.head=none", "config.head sets a part of what is set as a whole"),
        ("typed@config.head=none@config.head.out=1", "config.head.out sets a part of what is set as a whole"),
        ("typed@config..x=1", "names no field"),
        ("typed@conf.hidden=1", "no argument 'conf': did you mean config?"),
        ("plain@config.depth=1", "Plain needs width: add @config.width=…"),
        ("typed@config=nowhere.json", "there is no file nowhere.json"),
    ],
)
def test_what_cannot_be_built_is_told(nets: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        value(nets, text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"a": ', "is not JSON"),
        ("a.json", b"\xff\xfe", "cannot read"),
        ("a.json", b"[" * 100_000, "is not JSON"),
        ("a.json", json.dumps([0] * 100_001).encode(), "more than 100,000 values"),
        ("a.json", b"[" * 40 + b"]" * 40, "more than 32 levels"),
        ("a.toml", b"a = ", "is not TOML"),
        ("a.yaml", b"a: [", "is not YAML"),
        ("a.yaml", b"a: !!python/object/apply:os.getcwd []", "is not YAML"),
        # each line is nine times the one before: 9^9 values
        ("a.yaml", b"a0: &a0 [1]\n" + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9))
                                               for i in range(1, 10)), "more than 100,000 values"),
        ("a.yaml", b"a: &a [*a]\n", "more than 32 levels"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml", reason="PyYAML is optional")
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(SpecError) as error:
        read(str(file))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(SpecError, match="needs PyYAML: pip install pyyaml"):
        read(str(tmp_path / "a.yaml"))


def test_a_file_that_holds_no_fields(nets: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(SpecError, match="config is"):
        value(nets, f"typed@config={tmp_path / 'a.json'}@config.hidden=1")
    with pytest.raises(SpecError, match=r"config is Config, not \[1\]"):
        value(nets, f"typed@config={tmp_path / 'a.json'}")
    assert parse(f"{nets}:typed@config.hidden=1").arguments == {"config.hidden": 1}
