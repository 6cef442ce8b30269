"""The elements of an SVG, and how wide a text is."""

from html import escape
from typing import Any

from archscope.core.formats.base import one_line
from archscope.report.draw import GREY

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def wide(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif face."""
    narrow = sum(c in " .,·:;|!'iljtf()[]" for c in text)
    return size * (0.60 * (len(text) - narrow) + 0.31 * narrow)


def number(value: float) -> str:
    """A coordinate, the same on every machine: to a tenth."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tag(name: str, text: str | None = None, **attributes: Any) -> str:
    """An element of SVG: floats to a tenth, `_` in a name for `-`. text: what it contains, escaped."""
    values = {k.replace("_", "-"): number(v) if isinstance(v, float) else v for k, v in attributes.items()}
    start = f"<{name} " + " ".join(f'{k}="{v}"' for k, v in values.items())
    return f"{start}/>" if text is None else f"{start}>{escape(one_line(text))}</{name}>"


def document(width: float, height: float, body: list[str], title: str, left: float = 0.0) -> str:
    """An SVG document: transparent, named for screen readers. left: where it begins."""
    w, h = number(width), number(height)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="{number(left)} 0 {w} {h}" '
            f'role="img" font-family="{FONT}">',
            f"<title>{escape(one_line(title))}</title>",
            f'<defs><marker id="to" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="{GREY}"/></marker></defs>',
            *body,
            "</svg>",
            "",
        ]
    )
