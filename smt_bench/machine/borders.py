"""Text from elsewhere (messages, names of models, data) on its way out: one function for each of the four borders.

A model can be called `<script>`, a library's message can hold escape sequences, a task's name can begin like a formula. Inside,
text stays as it is; what crosses a border is made harmless there.
"""

from __future__ import annotations

import codecs
import re
import sys

# C0 and C1 control characters but tab and line end, and the marks that turn the direction of writing round.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets run


LONGEST = 1000  # characters of an error message
_SPELLED = {"±": "+-", "−": "-", "·": "*", "²": "^2", "≈": "~", "×": "x"}  # what our own tables and notes hold


def _spell(error: UnicodeError) -> tuple[str, int]:
    """For codecs: characters that an encoding lacks, as ASCII; what has no such spelling as its code."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost), error.end


def widen_streams() -> None:
    """Lets standard output and error take every text, whatever their encoding is: a table must not fail for a "±"."""
    codecs.register_error("spell", _spell)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what tests put in their place may have no encoding
            stream.reconfigure(errors="spell")


def one_line(text: str) -> str:
    """For an error message: lines that it has because of what it quotes are joined, and what is too long loses its middle."""
    joined = " ".join(part for line in text.splitlines() if (part := line.strip()))
    return joined if len(joined) <= LONGEST else f"{joined[: LONGEST // 2]} ... {joined[-LONGEST // 2 :]}"


def terminal(text: str) -> str:
    """For a terminal: nothing that moves the cursor, changes colours or turns text round; "?" in its place."""
    return _CONTROLS.sub("?", text)


def markdown(text: str) -> str:
    """For a sentence or a cell of a Markdown page: no markup and no HTML of its own, on one line."""
    flat = " ".join(terminal(text).split())
    return re.sub(r"([\\`*\[\]|])", r"\\\1", flat).replace("<", "&lt;")


def csv_cell(text: str) -> str:
    """For a cell of a CSV file: a text that a spreadsheet would compute gets an apostrophe before it."""
    return "'" + text if text.startswith(_FORMULA) and not _is_number(text) else text


def folder_name(text: str) -> str:
    """For a name of a file or folder: "/" becomes "--", anything unusual "-"; never hidden, never a way out of the folder."""
    plain = re.sub(r"[^\w.\-+=,@ ()]", "-", text.replace("/", "--"))
    return re.sub(r"^\.+", lambda dots: "-" * len(dots[0]), plain) or "-"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
