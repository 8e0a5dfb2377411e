"""README's tables are what the committed results say."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

from smt_bench.questions.recipes import RECIPES


def test_readmes_tables_are_those_of_the_committed_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "front_page.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_of_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def _values(table: Path) -> list[float]:
    """All numbers of a table that a document links, or of a folder of them."""
    files = table.glob("*.csv") if table.is_dir() else [table.with_suffix(".csv")]
    cells = [cell for file in files if file.exists() for row in csv.reader(file.open(encoding="utf-8")) for cell in row]
    return [abs(float(cell)) for cell in cells if re.fullmatch(r"-?\d+\.?\d*(e-?\d+)?", cell)]


def test_losses_that_the_findings_name_stand_in_the_tables_that_they_link() -> None:
    page = ROOT / "docs" / "findings.md"
    named, lead = 0, list[float]()
    for point in re.split(r"\n(?=- |\n|#)", page.read_text(encoding="utf-8")):
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", point) if "results/" in link]
        own = [value for link in links for value in _values(page.parent / link)]
        if point.strip() and not point.strip().startswith("- "):
            lead = own  # what stands above a list, for its points without a link
        words = re.sub(r"`[^`]*`", "", re.sub(r"\]\([^)]*\)", "]", point))
        for number in re.findall(r"(?<![\w.])\d+\.\d{3,}(?![\w.]*\d)", words):
            places = len(number.partition(".")[2])
            assert any(f"{value:.{places}f}" == number for value in own or lead), f"{number} in: {point.strip()}"
            named += 1
    assert named > 30


def test_what_a_model_of_ones_own_gets_is_what_its_recipe_says() -> None:
    small = RECIPES["small"]
    said = f"{small.steps} steps of {small.batch_size} examples and {small.limit} test items per task"
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")
