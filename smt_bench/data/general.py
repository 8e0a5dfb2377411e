"""General text, on which forgetting is measured: its cross-entropy after training against that of the untouched model.

From a file of one's own (plain text, or records with a `text` column), a data set of the hub, or for the embedded model, which
has only ever learned responses, those of its pretraining.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from smt_bench.data import world
from smt_bench.data.example import Example, Plain
from smt_bench.data.own_files import HUB, is_data, records
from smt_bench.data.reading import text_of, unfit

EMBEDDED = "embedded"
NAME = "general"  # of the set in a record, before the file's name
COLUMN = "text"
COUNT = 200  # pieces at most, of a text to see forgetting by
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
    path = Path(source)
    name, folder = (source, Path()) if source.startswith(HUB) else (path.name, path.parent)
    label = name.removeprefix(HUB).split(":")[0].replace("/", "-")
    return f"{NAME}-{label}", pieces(name, folder, COUNT)


def pieces(source: str, folder: Path, most: int | None = None) -> list[Example]:
    """A text in pieces: plain, or the column `COLUMN` of records.

    Args:
        source: a file in `folder`, or a data set of the hub.
        folder: where it lies.
        most: pieces; None: all of it.

    Raises:
        ValueError: no such text, or nothing in it.
    """
    where = source if source.startswith(HUB) else str(folder / source)
    if source.startswith(HUB) or is_data(source):
        texts = []
        for place, values in records(source, folder):
            text = values.get(COLUMN)
            if not isinstance(text, str):
                raise ValueError(f"{place}: no column {COLUMN!r} of text: name one so")
            texts.append(text)
    else:
        texts = [text_of(folder / source)]
    return plain(texts, where, most)


def plain(texts: Iterable[str], where: str, most: int | None = None) -> list[Example]:
    """Texts as pieces of up to `CHARACTERS`, `most` of them at most.

    Raises:
        ValueError: nothing in them, or what no tokenizer takes; names `where` they are from.
    """
    found = list(islice((piece for text in texts for piece in _pieces(text)), most))
    if not found:
        raise ValueError(f"{where}: no text in it: choose another")
    if what := next((what for piece in found if (what := unfit(piece))), None):
        raise ValueError(f"{where}: it holds {what}: mend the file")
    return [Plain("", "", piece, "") for piece in found]


def _pieces(text: str) -> list[str]:
    found, rest = [], text.strip()
    while rest:
        cut = len(rest)
        if cut > CHARACTERS:
            cut = max(rest.rfind("\n\n", 0, CHARACTERS), 0) or max(rest.rfind(" ", 0, CHARACTERS), 0) or CHARACTERS
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return found
