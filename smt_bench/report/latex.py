"""Our Markdown tables as LaTeX (booktabs), for papers."""

from __future__ import annotations

import re

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$", "≥": r"$\geq$", "≤": r"$\leq$",
    "≈": r"$\approx$", "·": r"$\cdot$", "×": r"$\times$", "√": r"$\surd$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text for LaTeX; "**x**" is bold."""
    plain = text.replace("\\|", "|").replace("&lt;", "<")
    made = "".join(_SPECIAL.get(c, c) for c in plain)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", made)


def booktabs(markdown: str) -> str:
    """The tables of a Markdown file, each in a `table` environment with its title and, as comments, its notes.

    Args:
        markdown: as `report.table.Table` writes it.
    """
    made: list[str] = []
    for part in re.split(r"(?m)^## ", markdown)[1:]:
        title, *lines = part.splitlines()
        rows = [_cells(line) for line in lines if line.startswith("|")]
        notes = [line[2:] for line in lines if line.startswith("- ")]
        if len(rows) < 2:
            continue
        header, rule, *body = rows
        columns = "".join("r" if cell.strip().endswith(":") else "l" for cell in rule)
        made += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
        ]
        made += [_line(header), r"\midrule", *map(_line, body), r"\bottomrule", r"\end{tabular}"]
        made += [f"% {' '.join(note.split())}" for note in notes]
        made += [r"\end{table}", ""]
    return "\n".join(["% needs \\usepackage{booktabs}", *made])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _line(cells: list[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
