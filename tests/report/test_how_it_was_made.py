"""How the runs were made stands apart from how a table is to be read, in the file; on a screen it is named only."""

from __future__ import annotations

from pathlib import Path

from helpers import Cli

from smt_bench.report.accuracy.mixtures import together
from smt_bench.report.page.markup import tables
from smt_bench.report.table import HOW, Made, Table, add_notes, in_short


def test_in_the_file_it_stands_last_and_on_a_screen_its_length(tmp_path: Path) -> None:
    sheet = Table("Losses", ["method", "loss"], [["smt", 1.5]], [Made("220 steps."), "±: 95 %.", Made("fp32.")])
    path = sheet.write(tmp_path, "losses")[0]
    add_notes([path], ["Analysis: abc."])
    text = path.read_text()
    assert text.endswith(f"\n\n- ±: 95 %.\n- Analysis: abc.\n\n{HOW}\n\n- 220 steps.\n- fp32.\n")
    short = in_short(text, path.name)
    assert short.endswith(f"\n\n- ±: 95 %.\n- Analysis: abc.\n- {HOW} 2 lines in losses.md.\n")
    assert short.split("\n\n- ")[0] == text.split("\n\n- ")[0]
    (shown,) = tables(path, "here")  # the page folds notes away: all of them stand there
    assert len(shown.notes) == 4 and HOW not in shown.html


def test_a_table_without_such_notes_is_shown_whole() -> None:
    text = Table("Losses", ["method"], [["smt"]], ["±: 95 %."]).to_markdown()
    assert in_short(text, "losses.md") == text and HOW not in text


def test_notes_of_several_parts_stay_what_they_are() -> None:
    one, other = [Made("fp32."), Made("20 steps."), "n = 3."], [Made("fp32."), Made("30 steps."), "n = 3."]
    found = together(["A", "B"], [one, other])
    assert found == ["fp32.", "A: 20 steps.", "n = 3.", "B: 30 steps."]
    assert [isinstance(line, Made) for line in found] == [True, True, False, True]


def test_a_command_prints_the_short_one(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "plateau", "--preset", "smoke", "--methods", "lora", "--fractions", "2")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if HOW in line]
    assert line.startswith(f"- {HOW} ") and line.endswith(" lines in table3.md.")
    assert "learning rates" not in done.stdout.lower()
