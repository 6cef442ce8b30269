"""Limits and the config: what is read, what is refused and at which line, and that limits are held exactly."""

import random
import re
from fractions import Fraction
from pathlib import Path

import pytest

from archscope.core.errors import SpecError
from archscope.gate.budget import Budget, Config, Target, find, fits, judge, limit_of
from archscope.gate.judge import targets_of
from archscope.gate.lock import TOTALS, Entry


def entry(**totals: object) -> Entry:
    return Entry("net", "1x3", {}, 1, {}, dict.fromkeys(TOTALS, 0) | totals, ())


@pytest.mark.parametrize(
    ("metric", "text", "sign", "amount", "of"),
    [
        ("params", "<= 3.5 M", "<=", 3_500_000, ""),
        ("params", "3.5M", "<=", 3_500_000, ""),
        ("params", "3.5 m", "<=", 3_500_000, ""),
        ("params", "== 60,965,224", "==", 60_965_224, ""),
        ("params", "= 60_965_224", "==", 60_965_224, ""),
        ("params", "< .5k", "<", 500, ""),
        ("macs", ">= 1 G", ">=", 10**9, ""),
        ("macs", "≥ 0.1 T", ">=", 10**11, ""),
        ("macs", "<= +2 %", "<=", 2, "%"),
        ("macs", "≤ +0.1%", "<=", Fraction(1, 10), "%"),
        ("macs", ">= -2 %", ">=", -2, "%"),
        ("macs", "<= −2 %", "<=", -2, "%"),
        ("macs", "+1 K", "<=", 1000, "+"),
        ("activations", "<= 64 MB", "<=", 64 * 10**6, ""),
        ("activations", "64 MiB", "<=", 64 * 2**20, ""),
        ("memory", "<= 1.5 KiB", "<=", 1536, ""),
        ("memory", "<= 100 B", "<=", 100, ""),
        ("memory", "<= 100", "<=", 100, ""),
        ("memory", "<= +1 kB", "<=", 1000, "+"),
        ("depth", "<= 50", "<=", 50, ""),
    ],
)
def test_limits_are_read(metric: str, text: str, sign: str, amount: Fraction, of: str) -> None:
    limit = limit_of(metric, text)
    assert (limit.metric, limit.sign, limit.amount, limit.of) == (metric, sign, amount, of)


@pytest.mark.parametrize(
    ("metric", "said", "told"),
    [
        ("params", "3.5 MB", "'MB' is no unit of it; there is K M G T"),
        ("params", "<= many", "is no limit"),
        ("params", "", "is no limit"),
        ("params", "<= 3.5.1 M", "is no limit"),
        ("params", "<= 3 M <= 4 M", "is no limit"),
        ("params", 3_500_000, 'write "<= 3500000" or "== 3500000"'),
        ("params", True, "is no limit"),
        ("params", 3.5, "is no limit"),
        ("params", ["<= 1"], "is no limit"),
        ("macs", "<= 2 %", 'a percentage is a change against the lock, write "<= +2 %"'),
        ("activations", "<= 64 M", "'M' is no unit of it; there is B kB MB"),
        ("latency", "<= 3", "unknown metric 'latency'"),
        ("param", "<= 3", "did you mean params?"),
    ],
)
def test_what_is_no_limit(metric: str, said: object, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        limit_of(metric, said)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found", "locked", "holds"),
    [
        ("<= 3.5 M", 3_500_000, None, True),
        ("<= 3.5 M", 3_500_001, None, False),
        ("< 3.5 M", 3_500_000, None, False),
        ("> 3", 4, None, True),
        (">= 3", 2, None, False),
        ("== 3", 3, None, True),
        ("== 3", 4, None, False),
        ("<= +2 %", 102, 100, True),
        ("<= +2 %", 103, 100, False),
        ("<= +0.1 %", 10**18 + 10**15, 10**18, True),  # exact, where floating point is not
        ("<= +0.1 %", 10**18 + 10**15 + 1, 10**18, False),
        ("<= +1 %", 101 * 10**15 + 1, 10**17 + 1, True),  # at most ⌊1.01 · (10^17 + 1)⌋
        ("<= +1 %", 101 * 10**15 + 2, 10**17 + 1, False),
        ("<= -10 %", 91, 100, False),
        ("<= -10 %", 90, 100, True),
        (">= -10 %", 89, 100, False),
        ("<= +1 K", 1100, 100, True),
        ("<= +1 K", 1101, 100, False),
        ("<= +2 %", 0, 0, True),
        ("<= +2 %", 100, None, False),
    ],
)
def test_limits_are_held(text: str, found: int, locked: int | None, holds: bool) -> None:
    before = None if locked is None else entry(params=locked)
    (verdict,) = judge([Budget("net", {}, (limit_of("params", text),))], entry(params=found), before)
    assert verdict.holds is holds


@pytest.mark.parametrize(
    ("metric", "text", "found", "locked", "said"),
    [
        ("params", "<= 3.5 M", 3_504_872, None, "params 3,504,872, over the limit <= 3.5 M by 4,872 (0.1 %)"),
        ("params", "<= +2 %", 110, 101, "params 110, over the limit <= +2 % (103) by 7 (6.8 %)"),
        ("macs", ">= 1 K", 900, None, "macs 900, under the limit >= 1 K by 100 (10.0 %)"),
        ("memory", "<= 1 kB", 1500, None, "memory 1,500 B, over the limit <= 1 kB by 500 B (50.0 %)"),
        ("memory", "<= +1 kB", 1500, 1000, "memory 1,500 B, within <= +1 kB (2,000 B)"),
        ("params", "< 5", 5, None, "params 5, not within < 5"),
        ("params", "+2 %", 5, None, "params 5: the limit <= +2 % is against the lock, which does not have this model"),
        ("receptive_field", "<= 99", None, None, "receptive_field is unknown, and its limit <= 99 cannot be checked"),
        ("receptive_field", "<= 99", [99, 100], None, "receptive_field 100, over the limit <= 99 by 1 (1.0 %)"),
    ],
)
def test_verdicts_in_words(metric: str, text: str, found: object, locked: int | None, said: str) -> None:
    before = None if locked is None else entry(**{metric: locked})
    (verdict,) = judge([Budget("net", {}, (limit_of(metric, text),))], entry(**{metric: found}), before)
    assert verdict.sentence == said


@pytest.mark.parametrize(
    ("name", "model", "is_for"),
    [
        ("net", "net", True), ("net", "net2", False), ("net*", "net2", True), ("all", "net2", True),
        ("a,net*", "net2", True), ("a,b", "net2", False), ("a[0-9]", "a1", True),
        ("f.py:Net@sides=[1,2]", "f.py:Net@sides=[1,2]", True), ("f.py:Net@sides=(1,2)", "f.py:Net", False),
    ],
)  # fmt: skip
def test_which_models_a_budget_is_for(name: str, model: str, is_for: bool) -> None:
    assert fits(Budget(name, {}, ()), model) is is_for


# ------------------------------------------------------------------------------------------------------- the file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_is_read(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        """[project]
name = "x"

[tool.archscope]
models = [
    "alexnet",  # a comment with "quotes"
    "vgg*",
    {model = "net.py:Net", input = "3x8x8", batch = 2, train = true},
]
lock = "ci/nets.lock"
require_coverage = true

[[tool.archscope.budget]]
model = "alexnet"
params = "<= 61 M"
message = "ask"

[tool.other]
models = ["none"]

[[tool.archscope.budget]]
model = "resnet50"
input = ["3x8x8"]
macs = "<= +2 %"
"""
    )
    config = find()
    assert config.folder == str(folder) and config.lock == "ci/nets.lock" and config.coverage
    assert config.models == (
        Target("alexnet", {}, 6),
        Target("vgg*", {}, 7),
        Target("net.py:Net", {"input": "3x8x8", "batch": 2, "train": True}, 8),
    )
    assert [(b.model, b.asked, b.message, b.line) for b in config.budgets] == [
        ("alexnet", {}, "ask", 13),
        ("resnet50", {"input": "3x8x8"}, "", 21),
    ]
    assert [limit.line for budget in config.budgets for limit in budget.limits] == [15, 24]
    names = [target.model for target in targets_of(config, {})]
    assert names[0] == "alexnet" and "vgg16" in names and names[-2:] == ["net.py:Net", "resnet50"]
    (folder / "a" / "b").mkdir(parents=True)
    assert find("a/b") == config


def test_archscope_toml_goes_first_and_has_no_prefix(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.archscope]\nmodels = ["alexnet"]\n')
    (folder / "archscope.toml").write_text('models = ["lenet"]\n[[budget]]\nmodel = "lenet"\nparams = "<= 1 M"\n')
    config = find()
    assert config.path == str(folder / "archscope.toml")
    assert config.models == (Target("lenet", {}, 1),) and config.budgets[0].line == 2


def test_without_a_table_there_is_no_config(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.ruff]\nselect = ["E"]\n')
    assert find() == Config(str(folder))
    (folder / "sub").mkdir()
    assert find("sub") == Config(str(folder / "sub"))
    (folder / "archscope.lock").write_text("")
    assert find("sub") == Config(str(folder))


HEAD = '[project]\nname = "x"\n\n[tool.archscope]\nmodels = ["lenet"]\n'


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (HEAD + "modles = []\n", 6, "unknown key 'modles': did you mean models?"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nparms = "<= 3 M"\n', 8, "unknown key 'parms': did"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nparams = "<= 3 X"\n', 8, "'X' is no unit"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\n\nmacs = "2 %"\n', 9, "a percentage is a change"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nmacs = 7\n', 8, "at most or exactly?"),
        (HEAD + '[[tool.archscope.budget]]\nparams = "<= 3 M"\n', 6, "budget[0]: table missing required field `model`"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\n', 6, "lenet has no limit"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = 3\nparams = "1"\n', 7, "budget[0].model: expected `str`"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nparams = "1"\nbatch = 0\n', 9, "batch: expected `int`"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nparams = "1"\ninput = 3\n', 9, "input: expected `str |"),
        (HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nparams = "1"\nmessage = 3\n', 9, "message: expected"),
        (HEAD + '[tool.archscope.budget]\nmodel = "lenet"\n', 6, "budget: expected `list`, got `table`"),
        (HEAD + "lock = 3\n", 6, "lock: expected `str`, got `int`"),
        (HEAD + 'require_coverage = "yes"\n', 6, "require_coverage: expected `bool`, got `str`"),
        (HEAD + '[[tool.archscope.budget]\nmodel = "x"\n', 6, "this is not TOML"),
        (HEAD + 'lock = "a\n', 6, "this is not TOML"),
        ('[tool.archscope]\nmodels = "lenet"\n', 2, "models: expected `list`, got `str`"),
        ('[tool.archscope]\nmodels = [\n  "lenet",\n  3,\n]\n', 3, "models[1]: expected `str | table`, got `int`"),
        ('[tool.archscope]\nmodels = [\n  "lenet",\n  {model = "nin", inptu = "3"},\n]\n', 4, "did you mean input?"),
        ('[tool]\narchscope = 3\n', 2, "tool.archscope: expected `table`, got `int`"),
        ('tool.archscope.models = ["lenet"]\ntool.archscope.modles = []\n', 2, "unknown key 'modles'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(folder: Path, text: str, line: int, told: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(SpecError) as caught:
        find()
    assert str(caught.value).startswith(f"pyproject.toml line {line}: ") and told in str(caught.value)


@pytest.mark.parametrize(
    ("more", "line", "told"),
    [
        ('[[tool.archscope.budget]]\nmodel = "vgg*"\nparams = "<= 3 M"\n', 6, "no model is called 'vgg*' here"),
        ('[[tool.archscope.budget]]\nmodel = "lenett"\nparams = "<= 3 M"\n', 6, "did you mean lenet"),
        ('[[tool.archscope.budget]]\nmodel = "lenet"\nbatch = 2\nparams = "<= 3 M"\n', None, ""),
        ("", None, ""),
    ],
)
def test_budgets_of_models_that_there_are_not(folder: Path, archscope, more: str, line: int | None, told: str) -> None:
    (folder / "pyproject.toml").write_text(HEAD + more)
    archscope("lock")
    ran = archscope("check", env={"GITHUB_ACTIONS": None})
    assert ran.code == (0 if line is None else ran.code) and (line is None or ran.code > 0)
    assert told in ran.out + ran.err
    if line is not None:
        assert f"pyproject.toml line {line}" in ran.out + ran.err


def test_two_inputs_for_one_model(folder: Path, archscope) -> None:
    text = '[tool.archscope]\nmodels = [\n  {model = "lenet", batch = 2},\n  {model = "lenet", batch = 3},\n]\n'
    (folder / "pyproject.toml").write_text(text)
    ran = archscope("lock")
    assert (
        ran.code == 2 and "pyproject.toml line" in ran.err and "lenet is there already, with another input" in ran.err
    )


def test_a_wildcard_that_matches_nothing_names_the_line(folder: Path, archscope) -> None:
    (folder / "pyproject.toml").write_text('[tool.archscope]\nmodels = ["vggg*"]\n')
    ran = archscope("lock")
    assert ran.code == 2 and "pyproject.toml line 2: no model matches 'vggg*'" in ran.err


def test_a_budget_needs_no_lock(folder: Path, archscope) -> None:
    """lenet has (25 + 1)·6 + (150 + 1)·16 + (400 + 1)·120 + (120 + 1)·84 + (84 + 1)·10 parameters."""
    params = 26 * 6 + 151 * 16 + 401 * 120 + 121 * 84 + 85 * 10
    (folder / "archscope.toml").write_text(f'[[budget]]\nmodel = "lenet"\nparams = "== {params}"\n')
    ran = archscope("check", env={"GITHUB_ACTIONS": None})
    assert (ran.code, ran.out) == (0, f"✓ lenet: params {params:,}, within == {params}\n")
    (folder / "archscope.toml").write_text('[[budget]]\nmodel = "lenet"\nmacs = "<= +1 %"\n')
    assert archscope("check").code == 2


def test_update_measures_against_the_new_lock(folder: Path, archscope) -> None:
    text = '[tool.archscope]\nmodels = [{model = "lenet", batch = 1}]\n[[tool.archscope.budget]]\nmodel = "lenet"\n'
    (folder / "pyproject.toml").write_text(text + 'macs = "<= +2 %"\nparams = "<= 1 K"\n')
    archscope("lock")
    (folder / "pyproject.toml").write_text(text.replace("batch = 1", "batch = 2") + 'macs = "<= +2 %"\n')
    ran = archscope("check", env={"GITHUB_ACTIONS": None})
    assert ran.code == 1 and "[pyproject.toml line 5]" in ran.out
    assert "over the limit <= +2 % (424,850) by 408,190 (96.1 %)" in ran.out  # ⌊1.02 · 416,520⌋, 833,040
    ran = archscope("check", "--update", env={"GITHUB_ACTIONS": None})
    assert ran.code == 0 and "~ lenet: the input changed" in ran.out and "✓ lenet: macs" in ran.out
    (folder / "pyproject.toml").write_text(text.replace("batch = 1", "batch = 2") + 'params = "<= 1 K"\n')
    assert archscope("check", "--update").code == 1  # the lock is renewed, the budget still does not hold


PIECES = (
    '"',
    "[",
    "]",
    "{",
    "}",
    ",",
    "=",
    "null",
    "-1",
    "1e999",
    "\x00",
    "\n",
    "true",
    "[[",
    "1979-05-27",
    "3",
    "\\\\",
)


def damaged(text: str, rng: random.Random) -> str:
    """The text after a few edits of the kind that a hand, a merge or a full disk makes."""
    for _ in range(rng.choice((1, 2, 4))):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 1, 5, 40)))
        text = text[:start] + rng.choice((*PIECES, "", text[start:stop] * 2)) + text[stop:]
    return text


def test_a_damaged_config_is_told_in_one_line(folder: Path) -> None:
    text = HEAD + '[[tool.archscope.budget]]\nmodel = "lenet"\nbatch = 2\nparams = "<= 3 M"\nmessage = "ask"\n'
    refused = 0
    for seed in range(300):
        (folder / "pyproject.toml").write_text(damaged(text, random.Random(seed)), encoding="utf-8")
        try:
            find()
        except SpecError as error:
            refused += 1
            assert "\n" not in str(error) and re.search(r"pyproject\.toml line \d+: |cannot read", str(error))
    assert refused > 100
