"""Markdown tables and figures of the results folder as HTML. Text from elsewhere stays text: no markup, no links."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import terminal
from smt_bench.report.table import HOW

COLOURS = 64  # of a figure in the page; line drawings need no more


@dataclass(frozen=True)
class Shown:
    """A table as HTML.

    Attributes:
        id: within the page.
        title: its heading.
        html: the table, or what else the file holds.
        notes: sentences below, as HTML.
    """

    id: str
    title: str
    html: str
    notes: tuple[str, ...]


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
    return reader.disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])


def inline(text: str) -> str:
    """A sentence of Markdown as HTML."""
    made: str = _markdown().renderInline(terminal(text))
    return made


def tables(path: Path, place: str) -> list[Shown]:
    """The parts of a Markdown file, each with its heading.

    Args:
        path: the file.
        place: for ids.
    """
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#"):
            parts.append((line.lstrip("# "), []))
        elif line != HOW:
            parts[-1][1].append(line)
    made = []
    for i, (heading, lines) in enumerate(p for p in parts if any(line.strip() for line in p[1])):
        id_ = f"table-{place}-{path.stem}" + (f"-{i}" if i else "")
        notes = [line[2:] for line in lines if line.startswith("- ")]
        rest = [line for line in lines if not line.startswith("- ")]
        made.append(
            Shown(
                id_,
                heading,
                _html(heading or path.stem, rest, f"{place}, {path.stem}"),
                tuple(inline(note) for note in notes),
            )
        )
    return made


def _html(heading: str, lines: list[str], where: str) -> str:
    text: str = _markdown().render("\n".join(terminal(line).replace(" %", "\u00a0%") for line in lines))
    text = re.sub(r"<th(?=[ >])", '<th scope="col"', text)
    opening = '<div class="scroll" role="region" tabindex="0" aria-label="{0} ({1})"><table class="data"><caption>{0}</caption>'
    said = escape(re.sub(r"[*`\\]", "", heading))
    # Two folders have tables of one title; a landmark has a name of its own.
    return text.replace("<table>", opening.format(said, escape(where))).replace("</table>", "</table></div>")


def picture(path: Path) -> tuple[str, int, int]:
    """A PNG file as a small `data:` address, its width and height: a page that knows them does not move while it loads."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        content = io.BytesIO()
        small.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode(), *small.size
