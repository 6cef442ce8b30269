"""Damages of files: of bytes, of lines, and of the values of a JSON text. Each is drawn by a generator with a seed."""

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

DIGITS = 4301  # one more than Python turns into a number
LONG = 200_000  # characters; a field of CSV has at most 131,072
DEEP = 100_000  # levels
HOSTILE = "<script>alert(1)</script>|`x`\\input{a}\x1b[31m\x07=1+1\r\n::error::no"


class Raw(str):
    """Text that stands in JSON as it is."""


class Pairs(list[Any]):
    """An object of JSON as pairs, so that a key may stand there twice."""


WORDS = [Raw(text) for text in (
    "null", "true", "false", "0", "-1", "1", "2", "3.5", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e308",
    "9" * DIGITS, str(1 << 60), str(1 << 63), str(1 << 64), str(-(1 << 63)), str(1 << 31), str(1 << 20), '""', '"x"',
    f'"{"x" * LONG}"', '"\\u0000\\u001b[31m\\u0007\\r\\n"', '"\\ud800"', '"\x01\x1b[2J"', '"1"', "[]", "{}", "[[]]",
    "[1,2,3]", "[-1]", '[null,"x"]', '{"tensor":0}', '{"tensor":99999}', '{"tensor":[]}', '{"float":"x"}',
    '{"float":"nan"}', "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * 40 + "]" * 40, "",
    json.dumps(HOSTILE), '"../../../etc/passwd"', '"\\u0000"',
)]  # fmt: skip


def tree(text: str) -> Any:
    return json.loads(text, object_pairs_hook=Pairs)


def written(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return f"{{{','.join(f'{json.dumps(k, ensure_ascii=False)}:{written(v)}' for k, v in value)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def places(value: Any) -> list[tuple[Any, int]]:
    """Every place in a tree, as the list that holds it and the index there."""
    found = []
    for i, one in enumerate(value if isinstance(value, list) else ()):
        found += [(value, i), *places(one[1] if isinstance(value, Pairs) else one)]
    return found


def put(holder: Any, i: int, value: Any) -> None:
    holder[i] = (holder[i][0], value) if isinstance(holder, Pairs) else value


def got(holder: Any, i: int) -> Any:
    return holder[i][1] if isinstance(holder, Pairs) else holder[i]


def values(value: Any, chance: Random) -> str:
    """The text of a tree with one to three of its values changed."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        found = places(value)
        if not found:
            break
        holder, i = chance.choice(found)
        # near the root there are few places and many ways to fail
        if chance.random() < 0.3 and isinstance(value, list) and value:
            holder, i = value, chance.randrange(len(value))
        old, kind = got(holder, i), chance.randrange(10)
        if kind < 4:
            put(holder, i, chance.choice(WORDS))
        elif kind == 4:
            del holder[i]
        elif kind == 5:
            holder.insert(chance.randrange(len(holder) + 1), holder[i])
        elif kind == 6:
            put(holder, i, deepcopy(got(*chance.choice(found))))
        elif kind == 7 and isinstance(holder, Pairs):
            key = chance.choice(["", "x", holder[i][0].upper(), HOSTILE, "\ud800".encode("utf-8", "replace").decode()])
            holder[i] = (key, old)
        elif type(old) is int:
            put(
                holder,
                i,
                chance.choice([old + 1, old - 1, -old, old * 1000, 0, str(old), float(old), [old], bool(old)]),
            )
        elif isinstance(old, str) and not isinstance(old, Raw):
            put(holder, i, chance.choice([old[:-1], old + old, f"{old}\0", f"{old}\r\n", old.upper(), "", [old], 7]))
        else:
            put(holder, i, chance.choice(WORDS))
    return written(value)


# ------------------------------------------------------------------------------------------------------------ bytes


def _cut(data: bytes, chance: Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _flipped(data: bytes, chance: Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        if out:
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def _random(data: bytes, chance: Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.choice((1, 4, 100))) + data[at + chance.choice((0, 4, 100)) :]


def _less(data: bytes, chance: Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 2, 10, 1000)) :]


def _twice(data: bytes, chance: Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[max(0, at - chance.choice((1, 10, 1000))) :]


def _insert(data: bytes, chance: Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(INSERTS) + data[at:]


def _number(data: bytes, chance: Random) -> bytes:
    """A length, a count or a size becomes a large one."""
    at = chance.randrange(max(1, len(data) - 7))
    claim = chance.choice((1 << 60, (1 << 64) - 1, 1 << 40, 1 << 31, 0)).to_bytes(8, "little")
    width = chance.choice((4, 8))
    return data[:at] + claim[:width] + data[at + width :]


def _whole(data: bytes, chance: Random) -> bytes:
    return chance.choice(
        (b"", b"\n", b"\0" * 100, data + data, data[::-1], b"\xef\xbb\xbf" + data, chance.randbytes(500))
    )


INSERTS = (b"\0", b"\r", b"\n", b"\r\n", b"\x1b[31m", b"\xff", b'"', b"[", b"{", b"|", b",", b";", b"=" * 100,
           b"9" * DIGITS, b"x" * LONG, b"[" * DEEP, b"\xed\xa0\x80", b"\xef\xbb\xbf", HOSTILE.encode())  # fmt: skip
BYTES: list[Callable[[bytes, Random], bytes]] = [_cut, _flipped, _random, _less, _twice, _insert, _number, _whole]


def of_bytes(data: bytes, chance: Random) -> bytes:
    return chance.choice(BYTES)(data, chance)


# ------------------------------------------------------------------------------------------------------------- text


def of_lines(data: bytes, chance: Random) -> bytes:
    """Lines that are gone, doubled, in another order, or thousands of the same."""
    lines = data.split(b"\n")
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(5)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 3:
        lines[i:i] = [lines[i]] * chance.choice((10, 1000))
    else:
        return data.replace(b"\n", chance.choice((b"\r", b"\r\n", b"\n\n", b" ")))
    return b"\n".join(lines)


CELLS = ["", "0", "-1", "NaN", "9" * DIGITS, "x" * LONG, "1e9999", "1" + "0" * 20, "((((" * 1000, "1\r2", '"', '""',
         "²", "٣", "½", "1x" * 5000, "9" * 18 + "x" + "9" * 18, "1e99", "10^99", "10^9999", "9**9**9", "9*" * 90 + "9",
         HOSTILE, "\0", "|", ",", ";", "model", "layer", "=" * 1000, "<" * 20_000, "[" * 20_000, "`" * 5000,
         "1," * 5000]  # fmt: skip


def of_cells(data: bytes, chance: Random) -> bytes:
    """A table between bars or commas with other cells."""
    text = data.decode()
    mark = "|" if text.count("|") > text.count(",") else ","
    for _ in range(chance.choice((1, 1, 3))):
        lines = text.split("\n")
        i = chance.randrange(len(lines))
        cells = lines[i].split(mark)
        j = chance.randrange(len(cells))
        kind = chance.randrange(6)
        if kind < 4:
            cells[j] = chance.choice(CELLS)
        elif kind == 4:
            del cells[j]
        else:
            cells[j:j] = [chance.choice(cells)] * chance.choice((1, 2, 500))
        lines[i] = mark.join(cells)
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def of_json(data: bytes, chance: Random) -> bytes:
    """One text of JSON."""
    return values(tree(data.decode()), chance).encode("utf-8", "surrogatepass")


def of_json_lines(data: bytes, chance: Random) -> bytes:
    """A text of JSON in each line."""
    lines = data.decode().rstrip("\n").split("\n")
    for _ in range(chance.choice((1, 1, 3))):
        i = chance.randrange(len(lines))
        try:
            lines[i] = values(tree(lines[i]), chance)
        except (ValueError, RecursionError):  # damaged already
            continue
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
