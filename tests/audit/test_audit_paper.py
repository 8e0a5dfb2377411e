"""The audit of the real printed tables: what it must find there, and the command as a user meets it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from helpers import ROOT

from smt_bench.audit import paper, printed
from smt_bench.audit.checks import repeats
from smt_bench.audit.checks.rivals import RIVALS
from smt_bench.audit.finding import Finding
from smt_bench.audit.page import markdown
from smt_bench.audit.statements.smt import SMT
from smt_bench.audit.statements.spiel import SPIEL
from smt_bench.cli.app import main
from smt_bench.evidence import published


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return paper.findings(printed.load())


def verdict(found: list[Finding], check: str, table: str, row: str, column: str = "") -> str:
    hits = [f for f in found if f.check == check and f.table == table and row in f.row and column in f.column]
    assert len(hits) == 1, hits
    return hits[0].verdict


def test_cells_are_kept_as_printed() -> None:
    rows = published.as_printed("smt_table10_warmup_commonsense")
    assert [row["avg"] for row in rows] == ["79.83", "80.16", "80.60", "80.43", "80.50"]
    blank = published.as_printed("spiel_table1_main")[0]["composed_humaneval"]
    assert blank == ""
    with pytest.raises(ValueError, match="no published table 'smt_table99'"):
        published.as_printed("smt_table99")
    assert list(printed.load())[9:12] == [
        "smt_table10_warmup_commonsense", "smt_table11_warmup_math10k", "smt_table12_block_size",
    ]  # fmt: skip


def test_what_the_printed_tables_are_known_for(found: list[Finding]) -> None:
    averages = {f.row for f in found if f.check == "average" and not f.holds}
    assert averages == {"llama2-7b spiel(best) 0.83 %", "q"}
    assert [f.row for f in found if f.verdict == "identical"] == ["llama-13b full 100 % = llama2-7b full 100 %"]
    assert [f.row for f in found if f.check == "best mark" and not f.holds] == ["llama-7b lora, marked at 0.84 %"]
    assert verdict(found, "noise", "SMT table 7", "abs_mean", "avg") == "noise of at least 1.40"
    table2 = "SMT table 2"
    assert verdict(found, "difference and noise", table2, "llama-7b: SMT over") == "within the noise"
    assert verdict(found, "best row", table2, "llama-7b spiel") == "differs by 1.7 from the best, at 1.26 %"
    assert verdict(found, "same configuration", "SMT table 3", "llama-7b spiel") == "differs by 0.9 from SMT table 2"
    assert verdict(found, "speed-up", "SMT table 1", "llama-7b lora") == "differs by 0.1"


def test_no_table_is_left_out(found: list[Finding]) -> None:
    seen = {f.table for f in found}
    elsewhere = {
        "SMT section 5",
        "SpIEL table 2",
        "SpIEL table 3",
        "SpIEL table 5",
    }  # only in statements, which name the section
    assert {printed.title(name) for name in printed.load()} - seen == elsewhere


def test_printed_shares_come_from_rank_32_on_five_modules_as_peft_counts(found: list[Finding]) -> None:
    shares = [f for f in found if f.check == "trainable share" and f.table == "SMT table 2" and "q, k, v" in f.row]
    assert Counter(f.verdict for f in shares) == {"agrees: of the base model with adapters": 7, "no rank gives it": 1}
    assert {str(f.computed).split(":")[0] for f in shares if f.holds} == {"rank 32"}
    seven = [f for f in found if f.table == "SMT table 2" and "lora(best) on all seven" in f.row]
    assert len(seven) == 4 and not any(f.holds for f in seven)
    spiel = [f.verdict for f in found if f.table == "SpIEL appendix D" and f.check == "trainable share"]
    assert spiel == ["agrees: of the base model with adapters"] * 8
    example = [f.verdict for f in found if f.table == "SMT section 3, footnote 6" and f.check == "trainable share"]
    assert example == ["agrees", "differs by 4,096: the size of one norm vector"]


def test_every_statement_finds_its_numbers(found: list[Finding]) -> None:
    tables = printed.load()
    lost = [s.says for s in (*SMT, *SPIEL) if "not in the tables" in s.check(tables).verdict]
    assert lost in ([], ["+0.5 point"])  # table 12's last row is not in the CSV
    for pair in RIVALS:
        assert pair.better.find(tables) is not None and all(c.find(tables) is not None for c in pair.others), pair.what
    for configuration in repeats.CONFIGURATIONS:
        for name, where in configuration.places:
            assert printed.find_row(tables[name], where) is not None, configuration.name


def test_page_and_summary_count_alike(found: list[Finding]) -> None:
    counts = Counter(f.holds for f in found)
    assert paper.summary(found).startswith(
        f"{counts[True]} of {len(found)} findings agree, {counts[None]} cannot be told, {counts[False]} do not ("
    )
    page = paper.page(found)
    assert [len(part.rows) for part in page if not isinstance(part, str)] == [counts[False], counts[None], counts[True]]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(
    as_json: bool,
    found: list[Finding],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", ["smt_bench", "audit", "paper", "--results", str(tmp_path), *["--json"] * as_json])
    monkeypatch.setattr(paper, "findings", lambda printed: found)  # the fixture has done the work
    with pytest.raises(SystemExit) as stop:
        main()
    done = capsys.readouterr()
    assert stop.value.code == 0
    assert done.err.splitlines() == [paper.summary(found), f"wrote {tmp_path / 'audit' / 'paper.md'}"]
    written = (tmp_path / "audit" / "paper.md").read_text(encoding="utf-8")
    if as_json:
        values = json.loads(done.out)
        keys = {"table", "row", "column", "printed", "computed", "verdict", "check"}
        assert len(values) == len(found) and all(set(v) == keys for v in values)
    else:
        assert done.out == written


def test_the_tables_are_those_handed_out_and_one_row_of_the_papers_text() -> None:
    shared = ROOT.parent / "shared"
    texts = sorted((shared / "seeds").glob("000_*.txt"))
    if not (shared / "paper").is_dir() or not texts:
        pytest.skip("../shared is not here")
    more = {}
    for path in sorted((shared / "paper").glob("*.csv")):
        ours = (published.folder() / path.name).read_text(encoding="utf-8").splitlines()
        theirs = path.read_text(encoding="utf-8").splitlines()
        assert ours[: len(theirs)] == theirs, path.name
        if ours[len(theirs) :]:
            more[path.stem] = ours[len(theirs) :]
    # The table that was handed out ends before the paper's last line.
    (row,) = more.pop("smt_table12_block_size")
    side, *scores = row.split(",")
    assert texts[0].read_text(encoding="utf-8").splitlines()[-1].split() == [f"SMT-{side}", *scores]
    assert not more


def test_block_64_is_the_half_point_of_appendix_i(found: list[Finding]) -> None:
    assert verdict(found, "statement", "SMT appendix I", "+0.5 point") == "agrees"
    assert verdict(found, "difference and noise", "SMT table 12", "block 64 over 256") == "within the noise"


def test_table_3_and_appendix_i_shares(found: list[Finding]) -> None:
    shares = [f for f in found if f.check == "trainable share" and f.table == "SMT table 3"]
    assert {f.printed for f in shares} == {Decimal(x) for x in ("0.43", "0.84", "1.26", "2.5", "3.73", "4.91")}
    assert all(f.holds for f in shares if "smt" in f.row)
    lora = [f for f in shares if f.row == "llama-7b lora on q, k, v, up, down" and not f.holds]
    assert [str(f.printed) for f in lora] == ["0.43", "0.84", "4.91"]
    assert verdict(found, "trainable share", "SMT table 2", "llama2-7b spiel(best)") == "differs by 0.01 from llama-7b"
    assert verdict(found, "trainable share", "SMT appendix I", "256 x 256") == "no number of blocks gives it"


def test_lora_does_get_better_above_its_best_share(found: list[Finding]) -> None:
    lines = {f.column.split(" above")[0]: f.verdict for f in found if "will not achieve better" in f.row}
    assert lines == {
        "llama-7b, lora": "not so: 76.3 to 76.4", "llama2-7b, lora": "not so: 77.6 to 78.4",
        "llama-7b, dora": "agrees", "llama2-7b, dora": "agrees",
    }  # fmt: skip


def test_the_readme_and_the_committed_page_are_of_this_audit(found: list[Finding]) -> None:
    root = ROOT
    counts = Counter(f.holds for f in found)
    said = f"{len(found)} findings on the two papers {counts[True]} agree, {counts[None]} cannot be told and {counts[False]} do"
    assert said in " ".join((root / "README.md").read_text(encoding="utf-8").split())
    page = (root / "results" / "reference" / "audit" / "paper.md").read_text(encoding="utf-8")
    assert page == markdown(paper.page(found))
