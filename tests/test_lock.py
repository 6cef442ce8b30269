"""archscope.lock: written and read back, refused whole where it is not whole, and no write is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archscope.gate.drift import changes, sentence, what
from archscope.gate.judge import entry_of, lock
from archscope.gate.lock import Entry, Line, LockError, parse, read, text_of, update


def entry(model: str, params: int = 7, **more: object) -> Entry:
    known = {"params": params, "macs": 12, "activations": 8, "receptive_field": None, "unknown": {}}
    totals = dict.fromkeys(lock.TOTALS, 0) | known
    lines = (
        Line("fc", "Linear", {"in_features": 3}, "1x2", params, params, 12, None, 8),
        Line('a name, with "quotes"', "Ünï", {}, "()", 0, 0, 0, 1, 0),
    )
    said: dict = {"asked": {}, "counting": 1, "made": {"archscope": "0.1.0", "torch": "2.14.1"}, "totals": totals}
    return Entry(**{"model": model, "input": "1x3", "lines": lines, **said, **more})


@pytest.fixture
def whole() -> str:
    """A lock of two models."""
    return text_of({"b": entry("b", asked={"input": "3"}, by="python"), "a": entry("a", 9)})


def test_what_is_written_is_read_back(whole: str) -> None:
    back = parse(whole)
    assert list(back) == ["a", "b"]
    assert back["a"] == entry("a", 9) and back["b"] == entry("b", asked={"input": "3"}, by="python")
    assert text_of(back) == whole


def test_a_trace_is_written_and_read_back(traced) -> None:
    made = entry_of(traced("lenet"), "lenet")
    assert parse(text_of({"lenet": made})) == {"lenet": made}
    layers = {line.path: line for line in made.lines}
    assert layers["conv1"].params == (5 * 5 * 1 + 1) * 6
    assert layers["conv1"].macs == 28 * 28 * 6 * 5 * 5
    assert layers["conv1"].config == {"in_channels": 1, "out_channels": 6, "kernel_size": 5, "padding": 2}
    for key in ("params", "trainable", "macs", "flops", "activations"):
        assert sum(getattr(line, key) for line in made.lines) == made.totals[key]


def test_every_line_is_json_and_a_layer_is_one_line(whole: str) -> None:
    said = [json.loads(line) for line in whole.splitlines()]
    assert said[0] == {"archscope_lock": 1} and said[-1] == {"end": "archscope_lock"}
    assert [one["layer"] for one in said if "layer" in one] == ["fc", 'a name, with "quotes"'] * 2


def test_first_is_the_line_of_the_first_layer(whole: str) -> None:
    lines = whole.splitlines()
    for one in parse(whole).values():
        assert json.loads(lines[one.first - 1])["layer"] == "fc"


def test_a_line_that_is_lost_is_noticed(whole: str) -> None:
    lines = whole.splitlines(keepends=True)
    for i in range(len(lines)):
        with pytest.raises(LockError):
            parse("".join(lines[:i] + lines[i + 1 :]))


def test_a_file_that_was_cut_off_is_noticed(whole: str) -> None:
    for end in range(len(whole) - 1):  # without its last line break it is still whole
        with pytest.raises(LockError):
            parse(whole[:end])


def test_a_line_that_stands_twice_is_noticed(whole: str) -> None:
    lines = whole.splitlines(keepends=True)
    for i in range(len(lines)):
        with pytest.raises(LockError):
            parse("".join(lines[: i + 1] + lines[i:]))


def test_a_digit_that_was_changed_is_noticed(whole: str) -> None:
    for i, character in enumerate(whole):
        if character.isdigit():
            other = whole[:i] + str((int(character) + 1) % 10) + whole[i + 1 :]
            with pytest.raises(LockError):
                parse(other)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('{"layer":"fc"', '<<<<<<< HEAD\n{"layer":"fc"', "line 14: a merge left a conflict here"),
        ('{"archscope_lock":1}', '{"archscope_lock":2}', "line 1: a newer archscope wrote this lock (version 2"),
        ('{"archscope_lock":1}', '{"name":"app","lockfileVersion":3}', "line 1: this is not a lock of archscope"),
        ('{"params":9}', '{"params":10}', "its layers have 9 parameters, its total says 10"),
        ('{"depth":0}', '{"width":0}', "line 12: this is not a line of a lock"),
        ('{"depth":0}\n', "", "a has no line for depth"),
        ('{"model":"b"', '{"model":"a"', "the end of a should stand here"),
        ('"kind":"Linear"', '"kind":"Bilinear"', "the checksum does not hold"),
        ('{"end":"archscope_lock"}\n', "", "before it is complete"),
        ('{"end":"archscope_lock"}\n', '{"end":"archscope_lock"}\n\n{}\n', "nothing may follow the last line"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(whole: str, old: str, new: str, told: str) -> None:
    assert old in whole
    with pytest.raises(LockError) as caught:
        parse(whole.replace(old, new, 1))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_stands_twice_names_the_line(whole: str) -> None:
    head, *rest = whole.splitlines()
    block = rest[: [i for i, line in enumerate(rest) if '"end"' in line][0] + 1]
    with pytest.raises(LockError, match="a stands here for the second time"):
        parse("\n".join([head, *block, *rest]))


def test_a_lock_that_still_says_a_default_is_no_drift() -> None:
    """A later archscope may leave out more: what an older one wrote is read as this one writes it."""
    older = Line("c", "Conv2d", {"kernel_size": [3, 3], "stride": [1, 1], "dilation": 2, "groups": 1}, "1x2", 7, 7)
    back = parse(text_of({"a": entry("a", lines=(older,), totals={**entry("a").totals, "macs": 0, "activations": 0})}))
    assert back["a"].lines[0].config == {"kernel_size": 3, "dilation": 2}


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "archscope.lock"
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace("\n", "\r\n").encode())
    assert read(str(path)) == parse(whole)


def test_no_file_no_text_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="archscope lock MODEL"):
        read(str(tmp_path / "no.lock"))
    (tmp_path / "bytes.lock").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LockError, match="is not text"):
        read(str(tmp_path / "bytes.lock"))
    with pytest.raises(LockError, match="cannot read"):
        read(str(tmp_path))
    with pytest.raises(LockError, match="is empty"):
        parse("")


def test_a_damaged_lock_is_told_in_one_line(whole: str) -> None:
    """Also where the checksums were made to hold: then the schema has to refuse it, or what is read can be written."""
    from test_budget import damaged

    refused = 0
    for seed in range(300):
        text = damaged(whole, random.Random(seed))
        if seed % 2:
            lines: list[str] = []
            begins = 0
            for line in text.split("\n"):
                if line.startswith('{"model":'):
                    begins = len(lines)
                if line.startswith('{"end":') and '"checksum"' in line:
                    line = line.partition('"checksum"')[0] + f'"checksum":"{lock._checksum(lines[begins:])}"}}'
                lines.append(line)
            text = "\n".join(lines)
        try:
            text_of(parse(text))
        except LockError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


# ------------------------------------------------------------------------------------------------- updates


def test_an_update_keeps_the_others_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "archscope.lock"
    update(str(path), lambda now: {**now, "a": entry("a")})
    update(str(path), lambda now: {**now, "b": entry("b")})
    assert list(read(str(path))) == ["a", "b"]
    assert os.listdir(tmp_path) == ["archscope.lock"]


def test_what_cannot_be_read_is_not_written_over(tmp_path: Path, whole: str) -> None:
    path = tmp_path / "archscope.lock"
    for broken in (whole[:-40], "<<<<<<< HEAD\n" + whole, whole.replace('{"params":9}', '{"params":8}'), "", "hello"):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(LockError):
            update(str(path), lambda now: {**now, "c": entry("c")})
        assert path.read_text(encoding="utf-8") == broken
        assert os.listdir(tmp_path) == ["archscope.lock"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "archscope.lock"
    path.write_text(whole, encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(LockError, match="No space left"):
        update(str(path), lambda now: {**now, "c": entry("c")})
    assert path.read_text(encoding="utf-8") == whole and os.listdir(tmp_path) == ["archscope.lock"]


def test_threads_that_update_at_once_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "archscope.lock")
    names = [f"net{i}" for i in range(24)]
    threads = [
        threading.Thread(target=update, args=(path, lambda now, name=name: {**now, name: entry(name)}))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(path)) == sorted(names)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_lock import entry
from archscope.gate.lock import update
for i in range(8):
    name = f"{{sys.argv[1]}}-{{i}}"
    update({path!r}, lambda now: {{**now, name: entry(name)}})
"""


def test_processes_that_update_at_once_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "archscope.lock")
    code = WRITER.format(tests=str(Path(__file__).parent), path=path)
    running = [subprocess.Popen([sys.executable, "-c", code, str(i)]) for i in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert sorted(read(path)) == sorted(f"{i}-{j}" for i in range(3) for j in range(8))


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_a_process_that_died_blocks_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "archscope.lock")
    code = "import time\nfrom archscope.gate.lock import alone\n"
    code += f"with alone({path!r}):\n print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(LockError, match="another process"), lock.alone(path, patience=0.1):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with lock.alone(path, patience=5):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_on_a_file_that_its_last_holder_deleted_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, taken, calls = tmp_path / ".archscope.lock.writing", lock._locked, []

    def late(handle: int) -> bool:
        calls.append(handle)
        if len(calls) == 1:
            beside.unlink()  # the last holder is done between our opening the file and our taking the lock
        return taken(handle)

    monkeypatch.setattr(lock, "_locked", late)
    with lock.alone(str(tmp_path / "archscope.lock"), patience=5):
        assert len(calls) == 2 and beside.exists()


# ------------------------------------------------------------------------------------------------- what moved


def conv(path: str, c_in: int, c_out: int, k: int, **config: object) -> Line:
    """A convolution on 8×8."""
    params = c_out * (c_in * k * k + 1)
    macs = 64 * c_out * c_in * k * k
    said = {"in_channels": c_in, "out_channels": c_out, "kernel_size": k, **config}
    return Line(path, "Conv2d", said, f"1x{c_out}x8x8", params, params, macs, 2 * macs, 256 * c_out)


def relu(path: str, c: int = 4) -> Line:
    return Line(path, "ReLU", {}, f"1x{c}x8x8", 0, 0, 0, 64 * c, 256 * c)


def told(before: list[Line], after: list[Line]) -> list[tuple[str, str]]:
    return [(change.how, change.line.path) for change in changes(before, after)]


def test_a_layer_put_into_a_sequential_is_one_layer_added() -> None:
    before = [conv("0", 3, 4, 3), relu("1"), conv("2", 4, 4, 3), relu("3"), conv("4", 4, 4, 3), relu("5")]
    shifted = [line._replace(path=str(i)) for i, line in enumerate([*before[:2], conv("", 4, 4, 5), *before[2:]])]
    assert told(before, shifted) == [("added", "2"), *(("renamed", str(i)) for i in range(3, 7))]
    assert told(shifted, before) == [("removed", "2"), *(("renamed", str(i)) for i in range(2, 6))]


def test_a_layer_that_was_widened_in_its_place_stays_that_layer() -> None:
    before = [conv("a", 4, 4, 1), conv("b", 4, 4, 1)]
    after = [conv("a", 4, 4, 3), conv("c", 4, 4, 1)]
    assert told(before, after) == [("changed", "a"), ("renamed", "c")]
    first, second = changes(before, after)
    assert sentence(first) == f"+ a 1×1 → 3×3: +{4 * 4 * 8} params, +{64 * 4 * 4 * 8:,} MACs"
    assert sentence(second) == "→ c was b"


def test_what_only_follows_is_told_apart() -> None:
    before = [conv("a", 3, 4, 3), relu("r", 4), conv("b", 4, 4, 1)]
    after = [conv("a", 3, 8, 3), relu("r", 8), conv("b", 8, 4, 1)]
    assert told(before, after) == [("changed", "a"), ("follows", "r"), ("changed", "b")]
    assert what(changes(before, after)[0]) == "out_channels 4 → 8"
    (pooled,) = changes([relu("p", 4)], [relu("p", 4)._replace(flops=9)])
    assert what(pooled) == "another input"


def test_twice_the_same_path_is_two_layers() -> None:
    before = [conv("a", 4, 4, 1), relu("add"), relu("add")]
    assert told(before, [*before, relu("add")]) == [("added", "add")]
    assert told([*before, relu("add")], before) == [("removed", "add")]


def test_another_kind_in_the_same_place() -> None:
    (change,) = changes([relu("act")], [relu("act")._replace(kind="GELU")])
    assert sentence(change) == "~ act ReLU → GELU"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"stride": 2}, "stride 1 → 2"),
        ({"bias": False}, "bias removed"),
        ({"groups": 4}, "groups 1 → 4"),
        ({"padding": [1, 2]}, "padding 0 → 1×2"),
        ({"padding_mode": "reflect"}, "padding_mode zeros → reflect"),
    ],
)
def test_arguments_in_words(config: dict, text: str) -> None:
    (change,) = changes([conv("a", 4, 4, 3)], [conv("a", 4, 4, 3, **config)])
    assert what(change) == text


def test_in_place_or_not_is_one_change() -> None:
    before = [conv("b.conv", 4, 4, 1), relu("b.add_")._replace(kind="add_", activations=0)]
    (change,) = changes(before, [before[0], relu("b.add")._replace(kind="add")])
    assert sentence(change) == f"+ b.add was b.add_, add_ → add: +{256 * 4:,} bytes of activations"


LAYERS = st.lists(
    st.builds(
        conv, st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3])
    )
    | st.builds(relu, st.sampled_from(["a", "b", "e"]), st.integers(1, 3)),
    max_size=9,
)


@given(before=LAYERS, after=LAYERS)
def test_every_layer_is_told_once_and_nothing_gets_lost(before: list[Line], after: list[Line]) -> None:
    found = changes(before, after)
    for key in ("params", "macs", "flops", "activations"):
        moved = sum(getattr(line, key) for line in after) - sum(getattr(line, key) for line in before)
        assert sum(change.delta(key) or 0 for change in found) == moved
    for lines, side in ((before, "before"), (after, "after")):
        told = [id(getattr(change, side)) for change in found if getattr(change, side) is not None]
        assert len(set(told)) == len(told) and set(told) <= set(map(id, lines))
    assert len(after) - len(before) == sum({"added": 1, "removed": -1}.get(change.how, 0) for change in found)
    assert bool(found) == (before != after) or sorted(before, key=str) == sorted(after, key=str)


def test_no_change_is_no_change(traced) -> None:
    lines = entry_of(traced("googlenet"), "googlenet").lines
    assert changes(lines, list(lines)) == ()


def test_a_deep_network_of_another_depth_is_compared_in_time(traced) -> None:
    """resnet101 has 17 blocks more in its third stage than resnet50, and nothing else."""
    before, after = (entry_of(traced(name), name).lines for name in ("resnet50", "resnet101"))
    found = changes(before, after)
    assert {change.how for change in found} == {"added"}
    assert len({change.line.path.rsplit(".", 1)[0] for change in found}) == 17
    block = 1024 * 256 + 256 * 256 * 9 + 256 * 1024 + 2 * (256 + 256 + 1024)
    assert sum(change.delta("params") or 0 for change in found) == 17 * block
