"""The rule of verdicts stands in the docs, word for word, and once."""

from __future__ import annotations

from helpers import ROOT

from smt_bench.evidence.decisions import Margins, using
from smt_bench.evidence.verdicts import rule, short_rule


def test_the_docs_hold_the_rule_that_is_used() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert rule() in text
    with using(Margins(2.0, 0.5)):
        assert rule() not in text and short_rule().startswith("Margins: 2 points of accuracy, 0.5 nats")
    tables = [p for p in (ROOT / "results").rglob("*.md") if rule() in p.read_text(encoding="utf-8")]
    assert not tables
