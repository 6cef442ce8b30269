"""Worksheets and explanations of language models: the figures that are asked for, and the mistakes that are named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from test_llm_figures import ALL, EXPERT, MISTRAL, MIXTRAL, TABLE

from archscope.learn.explain import explanation
from archscope.learn.grade import RIGHT, WRONG, marked, sheet_of
from archscope.learn.language import FEW, FIGURE, asked
from archscope.learn.quiz import head, worksheet
from archscope.sources.records import record_of

pytest.importorskip("transformers")

T = 100  # positions of both models
MIXTRAL, MISTRAL = f"{MIXTRAL}@max_position_embeddings={T}", f"{MISTRAL}@max_position_embeddings={T}"
CACHE, TEXT = "KV cache a token, 16 bits (bytes)", f"KV cache at {T} tokens, 16 bits (KiB)"
ACTIVE, CAUSAL, TRAIN = "Active parameters a token", f"Causal MACs of a prompt of {T} tokens", "Training FLOPs a token"
USED = ALL - 2 * 6 * EXPERT  # of 8 experts in each of 2 layers a token takes 2
MATRICES = USED - TABLE - 5 * 64  # no table, no norms
# Mistral: 2 layers, 4 heads of keys and values of 32, a window of 10 of which 9 rows are kept
A_TOKEN = 2 * 2 * 4 * 32 * 2


def marks_of(tmp_path: Path, spec: str, **answers: str) -> dict[str, tuple[str, str]]:
    """A sheet that is right but for these answers, written and read: heading -> verdict and reason."""
    record = record_of(spec)
    text = worksheet(record, "csv", head(record), answers=True)
    for one in asked(record):
        if one.heading in answers:
            cell = one.truth if "," not in one.truth else f'"{one.truth}"'
            (line,) = [line for line in text.splitlines() if one.heading in line]
            text = text.replace(line, line[: -len(cell)] + f'"{answers[one.heading]}"')
    (tmp_path / "sheet.csv").write_text(text, encoding="utf-8")
    marks = marked(record, sheet_of(str(tmp_path / "sheet.csv")))
    assert [m.layer for m in marks if m.verdict != RIGHT and m.layer not in answers] == []
    return {mark.layer: (mark.verdict, mark.reason) for mark in marks if mark.cell == FIGURE}


def test_the_answers_by_hand() -> None:
    truth = {one.heading: one.truth for one in asked(record_of(MIXTRAL))}
    scores = 2 * 4 * (16 + 16)
    assert truth == {
        CACHE: f"{2 * 2 * 2 * 16 * 2:,}",
        TEXT: f"{2 * 2 * 2 * 16 * 2 * T / 1024:.3f}",
        ACTIVE: f"{USED - TABLE:,}",
        CAUSAL: f"{T * MATRICES + scores * T * (T + 1) // 2:,}",
        TRAIN: f"{6 * ALL:,}",
    }
    assert asked(record_of("lenet")) == []
    assert asked(record_of("transformers:BertConfig@num_hidden_layers=1")) == []


CASES = [
    (MISTRAL, CACHE, f"{A_TOKEN}", ""),
    (MISTRAL, CACHE, f"2·2·4·32·2 = {A_TOKEN:,}", ""),
    (MISTRAL, CACHE, f"{2 * 2 * 8 * 32 * 2}", "attention heads in the place of key–value heads"),
    (MISTRAL, CACHE, f"{2 * 2 * 4 * (64 // 8) * 2}", "head_dim taken as hidden/heads: the configuration has its own"),
    (MISTRAL, CACHE, "777", "no rule that is known gives this"),
    (MISTRAL, CACHE, "many", "this is no number: write 34944 or 34,944"),
    (MISTRAL, TEXT, f"{A_TOKEN * 9 / 1024:.2f}", ""),
    (MISTRAL, TEXT, f"{A_TOKEN * 16 / 1024:.2f}", ""),  # in blocks of 16
    (MISTRAL, TEXT, f"{A_TOKEN * T / 1024:.2f}", "the sliding window forgotten"),
    (MISTRAL, TEXT, f"{A_TOKEN * 9 / 1000:.3f}", "KiB for KB: a KB is 1,000 bytes"),
    (MISTRAL, TEXT, "9", FEW if A_TOKEN * 9 % 1024 else ""),
    (MIXTRAL, ACTIVE, f"{USED}", ""),
    (MIXTRAL, ACTIVE, f"{ALL}", "every expert counted as active: a token takes a few"),
    (MIXTRAL, TRAIN, f"{6 * MATRICES}", ""),
    (MIXTRAL, TRAIN, f"{2 * MATRICES}", "2ND for 6ND: the forward pass alone, without the backward"),
    (MIXTRAL, CAUSAL, f"{T * MATRICES + 2 * 4 * 32 * T * T}", "the causal half forgotten"),
]


@pytest.mark.parametrize(("spec", "heading", "given", "reason"), CASES)
def test_marking_names_the_mistake(tmp_path: Path, spec: str, heading: str, given: str, reason: str) -> None:
    verdict, why = marks_of(tmp_path, spec, **{heading: given})[heading]
    assert verdict == (WRONG if reason else RIGHT)
    assert why.startswith(reason.partition(":")[0]) if reason else not why


def test_a_sheet_on_the_command_line(tmp_path: Path, archscope: Callable[..., Ran]) -> None:
    assert archscope("quiz", MIXTRAL, "--answers", "--output", f"{tmp_path}/a.md").code == 0
    ran = archscope("grade", f"{tmp_path}/a.md", "--all", "--format", "json")
    assert ran.code == 0
    assert {row["layer"] for row in json.loads(ran.out) if row["cell"] == FIGURE} == {
        CACHE,
        TEXT,
        ACTIVE,
        CAUSAL,
        TRAIN,
    }
    assert archscope("quiz", MIXTRAL, "--output", f"{tmp_path}/b.md").code == 0
    ran = archscope("grade", f"{tmp_path}/b.md", "--format", "json")
    assert ran.code == 1
    assert {row["verdict"] for row in json.loads(ran.out) if row["cell"] == FIGURE} == {"not answered"}


def test_experts_are_explained() -> None:
    numbers = {
        (section.title.partition(":")[0], line.name): line.number.value
        for section in explanation(record_of(MIXTRAL)).sections
        for line in section.equations
        if not isinstance(line.number, int)
    }
    bare = ALL - TABLE  # the configuration means the model without its head
    assert numbers["Parameters that a token uses", "active, with all tables"] == bare - 2 * 6 * EXPERT
    assert numbers["Parameters that a token uses", "active, without the input table"] == bare - 2 * 6 * EXPERT - TABLE
    assert numbers["What a token costs", "FLOPs of a token, training"] == 6 * (MATRICES - TABLE)
