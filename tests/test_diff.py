"""`archscope diff`: two models, two locks, two revisions of a lock in git, or one of each."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]


def git(*arguments: str) -> None:
    subprocess.run([*GIT, *arguments], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # of a hook that runs these tests
        monkeypatch.delenv(name, raising=False)
    git("init", "-q", "-b", "main")
    return tmp_path


@pytest.fixture
def history(folder: Path, archscope) -> Path:
    """main has lenet and nin; then lenet loses its padding for 10 classes more, and nin gives way to mnist-cnn."""
    archscope("lock", "lenet", "nin")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("branch", "other")
    lock = Path("archscope.lock")
    text = lock.read_text(encoding="utf-8")
    lock.unlink()
    archscope("lock", "lenet@num_classes=20")
    renamed = json_lock(lock)
    lock.write_text(text, encoding="utf-8")
    from archscope.gate import lock as locks

    entry = locks.parse(renamed)["lenet@num_classes=20"]
    changed = locks.Entry(**{**vars(entry), "model": "lenet"})
    locks.update("archscope.lock", lambda now: {"lenet": changed})
    archscope("lock", "mnist-cnn")
    git("commit", "-qam", "two")
    return folder


def json_lock(path: Path) -> str:
    return path.read_text(encoding="utf-8")


FC3 = 84 * 10  # ten outputs more, each with 84 weights and a bias


def test_two_models(archscope) -> None:
    ran = archscope("diff", "lenet", "lenet@num_classes=20")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("lenet → lenet@num_classes=20: totals\n")
    said = json.loads(archscope("diff", "lenet", "lenet@num_classes=20", "--format", "json").out)
    assert (said["before"], said["after"], said["same"]) == ("lenet", "lenet@num_classes=20", 0)
    totals = {row["total"]: row for row in said["totals"]}
    assert totals["params"]["change"] == FC3 + 10 and totals["macs"]["change"] == FC3
    assert totals["params"]["share"] == pytest.approx((FC3 + 10) / 61_706)
    (layer,) = said["layers"]
    assert (layer["path"], layer["how"], layer["what"]) == ("fc3", "changed", "out_features 10 → 20")
    assert (layer["params"], layer["macs"]) == (FC3 + 10, FC3)
    assert layer["config"] == {"in_features": 84, "out_features": 20} and layer["before"]["output"] == "1x10"


def test_the_same_model(archscope) -> None:
    assert archscope("diff", "lenet", "lenet").out == "lenet → lenet: the same\n"
    assert archscope("diff", "lenet", "lenet", "--format", "csv").out.startswith("model,how,path,what,params")


def test_the_input_is_for_both(archscope) -> None:
    said = json.loads(archscope("diff", "lenet", "lenet-bn", "--batch", "2", "--format", "json").out)
    norm = [layer for layer in said["layers"] if layer["how"] == "added"]
    assert norm and all(layer["output"].startswith("2x") for layer in norm)
    said = json.loads(archscope("diff", "lenet", "lenet", "--train", "--format", "json").out)
    assert said["layers"] == []


@pytest.mark.parametrize("format", ["terminal", "md", "latex", "html"])
def test_formats(archscope, format: str) -> None:
    out = archscope("diff", "lenet", "lenet@num_classes=20", "--format", format).out
    assert "fc3" in out and "+850" in out and "61,706" in out


def test_csv_and_columns_are_the_layers(archscope) -> None:
    out = archscope("diff", "lenet", "lenet@num_classes=20", "--format", "csv").out
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["model"], row["path"], row["params"]) == ("lenet@num_classes=20", "fc3", str(FC3 + 10))
    out = archscope("diff", "lenet", "lenet@num_classes=20", "--columns", "path,macs", "--format", "csv").out
    assert out == f"path,macs\nfc3,{FC3}\n"


def test_a_narrow_terminal(archscope) -> None:
    out = archscope("diff", "resnet50", "resnet50-v1.5", env={"COLUMNS": "60"}).out
    assert max(map(len, out.splitlines())) <= 60 and "stride 2 → 1" in out


def test_two_files(history: Path, archscope) -> None:
    Path("old.lock").write_text(
        subprocess.run(["git", "show", "HEAD~:archscope.lock"], capture_output=True, encoding="utf-8").stdout,
        encoding="utf-8",
    )
    said = json.loads(archscope("diff", "old.lock", "archscope.lock", "--format", "json").out)
    assert [(row["model"], row["how"]) for row in said["models"]] == [("mnist-cnn", "added"), ("nin", "removed")]
    assert [(row["model"], row["path"], row["params"]) for row in said["layers"]] == [("lenet", "fc3", FC3 + 10)]


@pytest.mark.parametrize(
    "words",
    [["HEAD~..HEAD"], ["other..main"], ["main~1.."], ["HEAD~"], ["HEAD~", "HEAD"], ["other...main"], ["other", "main"],
     ["other", "archscope.lock"]],
    ids=" ".join,
)  # fmt: skip
def test_revisions(history: Path, archscope, words: list[str]) -> None:
    ran = archscope("diff", *words, "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    said = json.loads(ran.out)
    assert {row["model"]: row["how"] for row in said["models"]} == {"mnist-cnn": "added", "nin": "removed"}
    assert [(row["path"], row["params"]) for row in said["layers"]] == [("fc3", FC3 + 10)]


def test_the_other_way_round_and_nothing(history: Path, archscope) -> None:
    said = json.loads(archscope("diff", "main..other", "--format", "json").out)
    assert [(row["path"], row["params"]) for row in said["layers"]] == [("fc3", -FC3 - 10)]
    assert archscope("diff", "main..HEAD").out == "main → HEAD: all 2 models are the same\n"
    assert archscope("diff", "HEAD").out == "HEAD → archscope.lock: all 2 models are the same\n"


def test_a_lock_below_the_root_of_the_repository(history: Path, archscope, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs("ci")
    os.rename("archscope.lock", "ci/nets.lock")
    git("add", "-A")
    git("commit", "-qm", "three")
    out = archscope("diff", "HEAD", "--lock", "ci/nets.lock").out
    assert out == "HEAD → ci/nets.lock: all 2 models are the same\n"
    ran = archscope("diff", "other..HEAD", "--lock", "ci/nets.lock")
    assert ran.code == 2 and "other has no ci/nets.lock" in ran.err


def test_a_model_and_how_it_is_locked(history: Path, archscope) -> None:
    said = json.loads(archscope("diff", "archscope.lock", "lenet", "--format", "json").out)
    assert (said["before"], said["after"]) == ("lenet in archscope.lock", "lenet")
    assert [(row["path"], row["params"]) for row in said["layers"]] == [("fc3", -FC3 - 10)]
    assert archscope("diff", "mnist-cnn", "main").out == "mnist-cnn → mnist-cnn in main: the same\n"
    archscope("lock", "lenet-bn", "--batch", "3")
    assert archscope("diff", "archscope.lock", "lenet-bn").out.endswith("→ lenet-bn: the same\n")  # run as it is locked
    ran = archscope("diff", "archscope.lock", "vgg11")
    assert ran.code == 2 and "archscope.lock has no model 'vgg11'" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lenet"], "`archscope diff lenet OTHER`"),
        (["nowhere..HEAD"], "'nowhere' is no git revision here"),
        (["nowhere"], "'nowhere' is no git revision"),
        (["no.lock", "archscope.lock"], "there is no no.lock"),
        (["archscope.lock"], "`archscope diff archscope.lock OTHER.lock`"),
        (["lenett", "lenet"], "did you mean lenet"),
        (["lenet", "lenet", "--format", "xml"], "unknown format 'xml'"),
        (["lenet", "lenet", "--columns", "pth"], "unknown column 'pth': did you mean path?"),
        (["HEAD~9..HEAD"], "'HEAD~9' is no git revision here"),
        (["--", "--help..HEAD"], "'--help' is no git revision here"),
    ],
)
def test_what_cannot_be_understood(history: Path, archscope, words: list[str], told: str) -> None:
    ran = archscope("diff", *words)
    assert ran.code == 2 and told in ran.err and ran.out == "" and ran.err.count("\n") == 1


def test_a_broken_lock_in_a_revision_is_named(history: Path, archscope) -> None:
    text = Path("archscope.lock").read_text(encoding="utf-8")
    Path("archscope.lock").write_text(text[:300], encoding="utf-8")
    git("commit", "-qam", "broken")
    ran = archscope("diff", "HEAD~..HEAD")
    assert ran.code == 2 and "archscope.lock in HEAD" in ran.err and "cut off" in ran.err


def test_outside_a_repository(tmp_path: Path, archscope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    ran = archscope("diff", "main..HEAD")
    assert ran.code == 2 and "'main' is no git revision here" in ran.err


def test_a_model_that_only_the_lock_has_an_input_of(folder: Path, archscope) -> None:
    """3·4 weights and 4 biases; then 3·5 and 5."""
    net = "from torch import nn\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(3, 4)\n"
    Path("net.py").write_text(net, encoding="utf-8")
    assert archscope("lock", "net.py:Net", "--input", "2x3").code == 0
    for words in (("archscope.lock", "net.py:Net"), ("net.py:Net", "archscope.lock")):
        ran = archscope("diff", *words)
        assert (ran.code, ran.err) == (0, "") and ran.out.endswith(": the same\n")
