"""Hostile and odd text does no harm where it leaves: terminal, Markdown, CSV, names of folders."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from made_up import record

from smt_bench.cli.options import say, show
from smt_bench.machine.borders import csv_cell, folder_name, markdown, terminal
from smt_bench.report.accuracy.by_fraction import table3
from smt_bench.report.table import Table

ESCAPES = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe"


def test_a_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"error: {ESCAPES}\n  second\tline ± é")
    show(ESCAPES)
    shown = capsys.readouterr()
    assert all(c.isprintable() or c in "\n\t" for c in shown.err + shown.out)
    assert shown.err.endswith("\n  second\tline ± é\n")  # ordinary text passes
    assert terminal("plain") == "plain"


def test_markdown_gets_no_markup_of_theirs() -> None:
    assert markdown("<script>alert(1)</script>") == "&lt;script>alert(1)&lt;/script>"
    assert markdown("a|b`c`\n![x](http://y)") == "a\\|b\\`c\\` !\\[x\\](http://y)"
    assert markdown("meta-llama/Llama-2_7b") == "meta-llama/Llama-2_7b"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-1.5", "+2", "1e-3", "smt", "", "V − K"])
def test_numbers_and_words_stay_as_they_are_in_csv(text: str) -> None:
    assert csv_cell(text) == text


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("meta-llama/Llama-2-7b-hf", "meta-llama--Llama-2-7b-hf"),
        ("tiny", "tiny"),
        ("../../etc", "----..--etc"),
        (".hidden", "-hidden"),
        ("a\x1b[2Jb\n", "a--2Jb-"),
        ("", "-"),
    ],
)
def test_a_folder_stays_in_its_place(name: str, folder: str) -> None:
    made = folder_name(name)
    assert made == folder and (Path("/results") / made).resolve().parent == Path("/results")


def test_tables_pass_every_border() -> None:
    table = Table("<b>", ["name", "=x"], [["=1|2", "<i>\x1b[1m"]], data=[{"name": "=1", "x": "\x1b[1m", "y": -1.5}])
    page = table.to_markdown()
    assert "<" not in page and "\x1b" not in page and "\\|" in page
    assert list(csv.reader(io.StringIO(table.to_csv()))) == [["name", "x", "y"], ["'=1", "?[1m", "-1.5"]]


def test_a_message_of_a_failed_run_is_only_text() -> None:
    lost = record("smt", 1.0, status="failed") | {"message": "<img src=x onerror=y> \x1b[31m`rm`"}
    page = table3([lost, record("lora", 1.0)], "<model>").to_markdown()
    assert "<img" not in page and "<model>" not in page and "\x1b" not in page and "\\`rm\\`" in page
