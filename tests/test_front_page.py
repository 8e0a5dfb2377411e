"""README's tables are what the committed results say."""

from __future__ import annotations

import re
import subprocess
import sys

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


def test_what_a_model_of_ones_own_gets_is_what_its_recipe_says() -> None:
    small = RECIPES["small"]
    said = f"{small.steps} steps of {small.batch_size} examples and {small.limit} test items per task"
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")
