"""LaTeX for pdflatex: table floats with the packages booktabs and amssymb, documents with aligned equations."""

import re
from collections.abc import Iterable

from archscope.core.document import Document, inline, meanings, steps, tex_name
from archscope.core.formats.base import RIGHT, cells_of, heading, one_line, renderer, totals_of, writer
from archscope.core.table import Table

_LATEX = {
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    "[": "{[}", "*": "{*}",  # at the start of a row, \\ of the row before would take them for its own
    "\u200b": "{}", '"': "''", "`": r"\textasciigrave{}",
    "–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
}  # fmt: skip
_LATEX_MATH = {
    "×": r"\times", "·": r"\cdot", "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "−": "-",
    "→": r"\rightarrow", "←": r"\leftarrow", "↔": r"\leftrightarrow", "✓": r"\checkmark", "✗": r"\times",
    "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "±": r"\pm", "÷": r"\div", "∞": r"\infty",
    "√": r"\surd", "∑": r"\sum", "Σ": r"\Sigma", "∏": r"\prod", "Δ": r"\Delta", "∈": r"\in", "²": "^2", "³": "^3",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon", "θ": r"\theta",
    "λ": r"\lambda", "μ": r"\mu", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "φ": r"\varphi",
    "ω": r"\omega", "ᵀ": "^T", "<": "<", ">": ">", "|": "|",
}  # fmt: skip
_LATEX_ALL = str.maketrans(_LATEX | {character: f"${name}$" for character, name in _LATEX_MATH.items()})


def escape(text: str) -> str:
    apart = re.sub("-(?=-)", "-\u200b", one_line(text))  # "--" would become a dash
    return apart.translate(_LATEX_ALL)


@renderer("latex")
def render(table: Table) -> str:
    """A table float with caption and label for pdflatex, with the packages booktabs and amssymb (for ✓)."""

    def line(cells: Iterable[str]) -> str:
        return f"    {' & '.join(escape(cell) for cell in cells)} \\\\"

    label = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
    below = [escape(text) for text in (*table.notes, table.legend()) if text]
    lines = [
        r"% \usepackage{booktabs, amssymb}",
        r"\begin{table}[htbp]",
        r"  \centering",
        *([rf"  \caption{{{escape(table.title)}}}"] if table.title else []),
        *([rf"  \label{{tab:{label}}}"] if label else []),
        rf"  \begin{{tabular}}{{{''.join('r' if c.form in RIGHT else 'l' for c in table.columns)}}}",
        r"    \toprule",
        line(heading(column) for column in table.columns),
        r"    \midrule",
        *(line(cells_of(table, row)) for row in table.rows),
    ]
    if totals := totals_of(table):
        lines += [r"    \midrule", line(totals)]
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if below:
        lines += [r"  \par\medskip", r"  \begin{minipage}{\linewidth}", r"    \footnotesize"]
        lines += [rf"    {text}\par" for text in below]
        lines += [r"  \end{minipage}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{amsmath, amssymb, booktabs}
\usepackage[margin=25mm]{geometry}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\begin{document}"""


@writer("latex")
def write(document: Document) -> str:
    """A document for pdflatex: a step a line, aligned at the equals signs."""
    numbers = document.sources

    def paragraphs(texts: Iterable[str]) -> list[str]:
        return [escape(one) + r"\par" for one in texts]

    def items(texts: Iterable[str]) -> list[str]:
        listed = [rf"\item {one}" for one in texts]
        return [r"\begin{itemize}", *listed, r"\end{itemize}"] if listed else []

    out = [_PREAMBLE, rf"\section*{{{escape(document.title)}}}", *paragraphs(document.about)]
    for section in document.sections:
        out += [rf"\subsection*{{{escape(section.title)}}}", *paragraphs(section.about)]
        out += items(inline(one, escape) for one in section.equations) if section.brief else []
        for one in () if section.brief else section.equations:
            mark = f" [{numbers[one.source]}]" if one.source else ""
            first, *rest = steps(one, tex=True)
            first = f"{first} ={{}}& {rest.pop(0)}" if one.letter and rest else f"& {first}"
            rows = [first, *(f"={{}}& {step}" for step in rest)]
            rows[-1] += rf"\ \text{{{escape(one.unit)}}}" if one.unit else ""
            out += [rf"\textbf{{{escape(one.name)}}}{mark}", r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"]
        out += [render(table).rstrip("\n") for table in section.tables]
        if where := meanings(section):
            each = (f"${tex_name(x)} = {value.replace(',', '{,}')}$: {meaning}" for x, value, meaning in where)
            out.append(f"where {'; '.join(each)}." + r"\par")
        out += items(map(escape, section.notes))
    if numbers:
        out.append(r"\subsection*{Sources}")
        out += [rf"[{i}] {escape(source)}\par" for source, i in numbers.items()]
    if document.caption:
        out.append(rf"\medskip{{\footnotesize {escape(document.caption)}\par}}")
    return "\n".join([*out, r"\end{document}"]) + "\n"
