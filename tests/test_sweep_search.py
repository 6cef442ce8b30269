"""Search: conditions, spaces, trials that can be repeated, the command."""

import ast
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from archscope.core.errors import SpecError
from archscope.sweeps.conditions import Condition
from archscope.sweeps.search import Search, Trials, shuffled, space_of

Command = Callable[..., Ran]

NETS = """
from torch import nn

space = {"width": [8, 16, 32], "depth": range(1, 5), "input": [32, 64]}

def build(width=8, depth=1):
    layers = [nn.Conv2d(3 if i == 0 else width, width, 3) for i in range(depth)]
    return nn.Sequential(*layers)

def drawn(rng):
    return {"width": rng.choice([8, 16]), "depth": rng.randint(1, 40), "input": 32}

def failing(rng):
    raise KeyError("oops")

nothing = 3
text = {"width": "abc"}
"""


def macs(width: int, depth: int, side: int) -> int:
    """Of `build`: depth valid 3×3 convolutions."""
    c, total = 3, 0
    for _ in range(depth):
        side -= 2
        total += side * side * width * c * 9
        c = width
    return total


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(NETS)
    return str(tmp_path / "nets.py")


# ----------------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("macs <= 600e6 and params <= 5e6", True),
        ("macs > 600e6 or params > 5e6", False),
        ("not macs > 600e6", True),
        ("1e6 < params < 5_000_000", True),
        ("macs / params", 100.0),
        ("-params", -4_000_000),
        ("macs // 3 % 7 + 1 - 2 * 0.5", 400_000_000 // 3 % 7 + 1 - 1),
        ("name == 'small'", True),
        ("name != 'small'", False),
        ("nothing < 3", None),
        ("nothing < 3 or params > 1", True),
        ("-nothing", None),
        ("params / zero", None),
    ],
)
def test_conditions(text: str, value: Any) -> None:
    record = {"macs": 400_000_000, "params": 4_000_000, "name": "small", "nothing": None, "zero": 0}
    found = Condition(text)(record)
    assert (bool(found) if isinstance(value, bool) else found) == (value if value is not None else found)
    if value is None:
        assert not found


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "().__class__", "macs.real", "macs[0]", "[macs]", "lambda: 1", "macs if 1 else 2",
     "(macs := 3)", "f'{macs}'", "macs in (1, 2)", "macs ** 9", "~macs", "b'x'", "...", "{}", "macs is None"],
)  # fmt: skip
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(SpecError, match="is not understood"):
        Condition(text)


@pytest.mark.parametrize("text", ["", "macs <", "macs <= 5 M", "(" * 500])
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        Condition(text)


def test_each_option_has_an_example_of_its_own() -> None:
    with pytest.raises(SpecError, match=r"--where 'macs <' cannot be read .*: write such as 'macs <= 600e6'"):
        Condition("macs <")
    with pytest.raises(SpecError, match=r"--best 'macs /' cannot be read .*: write such as 'macs / params'"):
        Condition("macs /", "--best")


def test_a_wrong_word_is_named() -> None:
    condition = Condition("mac <= 3 and params < 1")
    assert condition.names == ["mac", "params"]
    assert [text for text, _ in condition.parts] == ["mac <= 3", "params < 1"]
    with pytest.raises(SpecError, match="unknown word 'mac': did you mean macs?"):
        condition.check(["macs", "params"])
    with pytest.raises(SpecError, match="does not fit the values"):
        Condition("model > 3")({"model": "x"})


def test_random_conditions_are_those_of_python() -> None:
    """A thousand of them, against Python itself on numbers."""
    rng = random.Random(0)

    def made(depth: int) -> str:
        kind = rng.choice(["number", "name"] if depth == 0 else ["arithmetic", "compare", "bool", "not", "minus"])
        if kind == "number":
            return str(rng.randint(1, 9))
        if kind == "name":
            return rng.choice("abc")
        one, two = made(depth - 1), made(depth - 1)
        signs = {"arithmetic": "+ - * /", "compare": "< <= > >= == !=", "bool": "and or"}
        if kind in signs:
            return f"({one} {rng.choice(signs[kind].split())} {two})"
        return f"(not {one})" if kind == "not" else f"(-{one})"

    for _ in range(1000):
        text = made(rng.randint(1, 4))
        values = {name: rng.randint(1, 9) for name in "abc"}
        try:
            expected = eval(compile(ast.parse(text, mode="eval"), "", "eval"), {}, dict(values))
        except ZeroDivisionError:
            continue
        found = Condition(text)(values)
        assert found == expected, text


# ---------------------------------------------------------------------------------------------------------- trials


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 100, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_permutation(n: int, seed: int) -> None:
    assert sorted(shuffled(i, n, seed) for i in range(n)) == list(range(n))


def test_trials(nets: str) -> None:
    space = space_of(f"{nets}:space")
    every = list(Trials(space, 1000))
    assert len(every) == 3 * 4 * 2  # no point twice
    assert len({tuple(point.values()) for point in every}) == 24
    assert list(Trials(space, 5)) == every[:5] == Trials(space, 24)[:5]
    assert list(Trials(space, 24, seed=1)) != every
    drawn = space_of(f"{nets}:drawn")
    assert list(Trials(drawn, 50)) == list(Trials(drawn, 100))[:50]
    assert list(Trials(drawn, 50)) != list(Trials(drawn, 50, seed=1))


def test_search(nets: str) -> None:
    """Against every point of the space, reckoned by hand."""
    search = Search(space_of(f"{nets}:space"), 1000, where="macs <= 3e6", best="-macs", top=3)
    met = list(search.run())
    points = {(w, d, s): macs(w, d, s) for w in (8, 16, 32) for d in range(1, 5) for s in (32, 64)}
    fit = {point: count for point, count in points.items() if count <= 3e6}
    assert {(r["width"], r["arg_depth"], r["side"]): r["macs"] for r in met} == fit
    assert (search.met, search.evaluated) == (len(fit), 24)
    assert [r["macs"] for r in search.found()] == sorted(fit.values(), reverse=True)[:3]
    smallest = Search(space_of(f"{nets}:space"), 24, best="macs", top=2)
    assert sum(1 for _ in smallest.run()) == 24
    assert [r["macs"] for r in smallest.found()] == sorted(points.values())[:2]
    assert [r["trial"] for r in met] == sorted(r["trial"] for r in met)


def test_trials_that_fail_are_counted(nets: str) -> None:
    search = Search(space_of(f"{nets}:drawn"), 60)
    met = list(search.run())
    assert all(record["arg_depth"] <= 15 for record in met)  # 32 − 2·16 leaves nothing
    assert len(met) + sum(search.failures.values()) == 60 and search.failures


def test_a_search_in_a_file_goes_on(nets: str, tmp_path: Path) -> None:
    path = str(tmp_path / "found.jsonl")

    def search() -> Search:
        return Search(space_of(f"{nets}:space"), 24, where="macs <= 3e6", best="macs", top=4)

    first = search()
    run = first.run(output=path)
    for _ in range(3):
        next(run)
    run.close()  # type: ignore[attr-defined]
    again = search()
    whole = search()
    assert list(again.run(output=path)) == [json.loads(json.dumps(r)) | {"input": r["input"]} for r in whole.run()] or [
        r["trial"] for r in search().run()
    ] == [json.loads(line)["trial"] for line in Path(path).read_text().splitlines()]
    assert (again.met, again.evaluated) == (whole.met, 24)
    assert [r["trial"] for r in again.found()] == [r["trial"] for r in whole.found()]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("spac", "did you mean space?"),
        ("nothing", "is a int: write a dict of values or a function"),
        ("text", "width has 'abc', not several values"),
    ],
)
def test_what_is_no_space(name: str, said: str, nets: str) -> None:
    with pytest.raises(SpecError, match=said):
        space_of(f"{nets}:{name}")
    with pytest.raises(SpecError, match="names no space"):
        space_of(name)


def test_a_space_of_a_named_model(tmp_path: Path) -> None:
    (tmp_path / "wide.py").write_text("build = 'mobilenet-v1'\nspace = {'width': [0.25, 0.5], 'input': [96]}\n")
    search = Search(space_of(f"{tmp_path}/wide.py:space"), 2, best="params")
    assert sum(1 for _ in search.run()) == 2
    assert [record["params"] for record in search.found()] == [470072, 1331592]
    (tmp_path / "alone.py").write_text("space = {'width': [1]}\n")
    with pytest.raises(SpecError, match="has no 'build'"):
        space_of(f"{tmp_path}/alone.py:space")


# --------------------------------------------------------------------------------------------------------- command


def test_the_command(nets: str, archscope: Command, tmp_path: Path) -> None:
    words = ["search", f"{nets}:space", "--where", "macs <= 3e6", "--best=-macs", "--top", "2"]
    ran = archscope(*words, "--format", "json")
    assert ran.code == 0
    rows = json.loads(ran.out)
    assert [row["macs"] for row in rows] == sorted(
        (m for w in (8, 16, 32) for d in range(1, 5) for s in (32, 64) if (m := macs(w, d, s)) <= 3e6), reverse=True
    )[:2]
    table = archscope(*words, env={"COLUMNS": "100"})
    assert " of 24 trials meet macs <= 3e6" in " ".join(table.out.split()) and "@depth" in table.out
    path = tmp_path / "found.csv"
    stored = archscope(*words, "--output", str(path))
    assert stored.code == 0 and " of 24 trials in " in stored.err and "Trial" in stored.out
    assert len(path.read_text().splitlines()) > 3


def test_where_nothing_fits(nets: str, archscope: Command) -> None:
    ran = archscope("search", f"{nets}:space", "--where", "macs <= 3e6 and params < 0")
    assert ran.code == 1
    assert "0 of 24 trials meet" in ran.out and "0 meet params < 0" in ran.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--where mac<3", "unknown word 'mac': did you mean macs?"),
        ("--best mac", "--best 'mac': unknown word 'mac'"),
        ("--trials 0", "--trials is a whole number"),
        ("--seed x", "--seed is a whole number from 0 on"),
        ("--top -1", "--top is a whole number"),
        ("--columns widht", "did you mean width?"),
    ],
)
def test_wrong_words(words: str, said: str, nets: str, archscope: Command) -> None:
    ran = archscope("search", f"{nets}:space", *words.split())
    assert ran.code == 2 and said in ran.err


def test_a_space_that_fails(nets: str, archscope: Command) -> None:
    ran = archscope("search", f"{nets}:failing")
    assert ran.code == 1 and "failing fails at trial 0: KeyError: 'oops'" in ran.err
