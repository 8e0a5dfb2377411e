"""General text, on which forgetting is measured: its cross-entropy after training against that of the untouched model.

From a file of one's own (plain text, or records with a `text` column), a data set of the hub, or for the embedded model, which
has only ever learned responses, those of its pretraining.
"""

from __future__ import annotations

from pathlib import Path

from smt_bench.data import world
from smt_bench.data.own_files import HUB, is_data, records
from smt_bench.data.prompts import Example, Plain
from smt_bench.data.reading import text_of, unfit

EMBEDDED = "embedded"
NAME = "general"  # of the set in a record, before the file's name
COLUMN = "text"
COUNT = 200  # pieces at most
CHARACTERS = 1000  # of a piece of plain text, ending with a paragraph or a word; about 250 tokens of English


def general(source: str) -> tuple[str, list[Example]]:
    """Name and pieces of a general text.

    Args:
        source: `EMBEDDED`, a file, or a data set of the hub (`own_files.HUB`).

    Raises:
        ValueError: no such text, or nothing in it.
    """
    if source == EMBEDDED:
        return f"{NAME}-{EMBEDDED}", world.remembered(COUNT)
    if source.startswith(HUB) or is_data(source):
        path = Path(source)
        name, folder = (source, Path()) if source.startswith(HUB) else (path.name, path.parent)
        texts = []
        for where, values in records(name, folder):
            text = values.get(COLUMN)
            if not isinstance(text, str):
                raise ValueError(f"{where}: no column {COLUMN!r} of text: name one so")
            texts.append(text)
        label = name.removeprefix(HUB).split(":")[0].replace("/", "-")
    else:
        path = Path(source)
        texts, label = [text_of(path)], path.name
    pieces = [piece for text in texts for piece in _pieces(text)][:COUNT]
    if not pieces:
        raise ValueError(f"--forgetting {source}: no text in it: choose another")
    if what := next((what for piece in pieces if (what := unfit(piece))), None):
        raise ValueError(f"--forgetting {source}: it holds {what}: mend the file")
    return f"{NAME}-{label}", [Plain("", "", piece, "") for piece in pieces]


def _pieces(text: str) -> list[str]:
    found, rest = [], text.strip()
    while rest:
        cut = len(rest)
        if cut > CHARACTERS:
            cut = max(rest.rfind("\n\n", 0, CHARACTERS), 0) or max(rest.rfind(" ", 0, CHARACTERS), 0) or CHARACTERS
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return found
