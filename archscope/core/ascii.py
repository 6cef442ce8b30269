"""Output without the characters that ASCII, or another encoding, does not have."""

import codecs

# for streams without such characters; Gauss wrote [x] for ⌊x⌋
_PLAIN = {"×": "x", "·": "*", "−": "-", "–": "-", "─": "-", "⌊": "[", "⌋": "]", "⌈": "ceil(", "⌉": ")", "✓": "y",
          "✗": "n", "γ": "gamma", "β": "beta", "ᵀ": "'", "²": "^2", "→": "->", "≤": "<=", "≥": ">=",
          "…": "..."}  # fmt: skip


def replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that the encoding of the output does not have."""
    assert isinstance(error, UnicodeEncodeError)
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in wrong), error.end


codecs.register_error("archscope", replaced)


def to_ascii(text: str) -> str:
    """The text with ASCII in the place of other characters."""
    return text.encode("ascii", "archscope").decode()
