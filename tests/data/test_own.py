"""Data of one's own: every format reads the same, the description decides how it is judged, faults are named with their place."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli

from smt_bench.data import families, own
from smt_bench.data.example import Example, Plain, Posed
from smt_bench.data.general import general
from smt_bench.data.loading import load
from smt_bench.data.own_files import records
from smt_bench.data.sources import sources
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request

ROWS = [
    {"text": f"Is thing {i} fine?", "label": f"it is {('yes', 'no')[i % 2]}", "maker": f"m{i // 4}"} for i in range(24)
]  # the columns are called as nobody else calls them
DESCRIPTION = """
name = "goods"
title = "Goods"
[fields]
instruction = "text"
output = "label"
source = "maker"
[tests.fine]
file = "judge.csv"
kind = "options"
options = ["yes", "no"]
lead = "it is"
[tests.fine-loss]
file = "judge.csv"
kind = "loss"
"""


pytestmark = pytest.mark.usefixtures("own_data")


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "judge.csv", ROWS[:8])
    (tmp_path / "tasks.toml").write_text(DESCRIPTION)
    return tmp_path


def test_every_format_reads_the_same(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    write_csv(tmp_path / "a.csv", ROWS)
    write_csv(tmp_path / "b.csv", ROWS, ";")
    (tmp_path / "c.json").write_text(json.dumps(ROWS))
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "d.jsonl").write_text(lines)
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    parquet.write_table(Table.from_pylist(ROWS), tmp_path / "g.parquet")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text(lines)
    names = ["a.csv", "b.csv", "c.json", "d.jsonl", "e.jsonl.gz", "f.csv.gz", "g.parquet", f"hub:{tmp_path}/hub:train"]
    for name in names:
        assert [values for _, values in records(name, tmp_path)] == ROWS, name


def test_a_description_becomes_a_family_of_its_own(goods: Path) -> None:
    family = own.known_as(str(goods))
    assert (family.name, [t.name for t in family.tasks]) == ("goods", ["fine"]) and "goods" not in families.REGISTRY
    data = load(str(goods), "goods", (), 4, 5)
    assert len(data.train) + len(data.heldout) == 24 and len(data.heldout) == 4
    assert list(data.tests) == ["fine"] and list(data.losses) == ["fine-loss"]
    row = ROWS[data.items["fine"][0]]
    assert data.tests["fine"][0] == Posed(
        row["text"], "", row["label"], row["label"].removeprefix("it is "), source=row["maker"]
    )
    whole = load(str(goods), "goods", (), 4, None)
    assert sources(family, whole.tests["fine"]) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_an_answer_may_stand_alone_or_as_it_is_to_be_written(goods: Path) -> None:
    alone = [{**row, "label": row["label"].removeprefix("it is ")} for row in ROWS[:8]]
    told = []
    for rows in (ROWS[:8], alone, [{**row, "answer": row["label"]} for row in ROWS[:8]]):
        write_csv(goods / "judge.csv", rows)
        told.append([one.answer for one in load(str(goods), own.known_as(str(goods)).name, (), 4, None).tests["fine"]])
    assert told[0] == told[1] == told[2] == ["yes", "no"] * 4


def test_how_a_test_set_is_judged_is_in_the_key(goods: Path) -> None:
    write_csv(goods / "judge.csv", [{**row, "label": row["label"].removeprefix("it is ")} for row in ROWS[:8]])

    def key() -> str:
        planner = Planner(Request("plateau", "tiny", str(goods), changes={"heldout": 4}), fits.here())
        planner.open()
        return planner.run("base", None, 0)[0].key

    before = key()
    assert key() == before
    (goods / "tasks.toml").write_text(DESCRIPTION.replace('"it is"', '"it"'))
    assert key() != before
    (goods / "tasks.toml").write_text(DESCRIPTION.replace("Goods", "Better goods"))  # only what is shown
    assert key() == before


def test_an_option_that_begins_another_is_refused_where_it_is_scored(goods: Path, cli: Cli) -> None:
    rows = [row | {"label": f"it is {('yes', 'yes, mostly')[i % 2]}"} for i, row in enumerate(ROWS)]
    write_csv(goods / "train.csv", rows)
    write_csv(goods / "judge.csv", rows[:8])
    (goods / "tasks.toml").write_text(DESCRIPTION.replace('["yes", "no"]', '["yes", "yes, mostly"]'))
    asked = ("run", "plateau", "--data", str(goods), "--preset", "smoke", "--heldout", "8", "--methods", "base")
    done = cli(*asked)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "option 'yes' is the beginning of 'yes, mostly'" in done.stderr and "llm-adapters" in done.stderr
    assert cli(*asked, "--protocol", "llm-adapters").returncode == 0


def test_responses_that_only_end_like_an_option_have_no_lead(goods: Path) -> None:
    texts = ["It was founded in 2021.", "Ship it to the USA", "yes", "Hello! yes", "no no"]
    write_csv(goods / "train.csv", [row | {"label": texts[i % 5]} for i, row in enumerate(ROWS)])
    write_csv(goods / "judge.csv", [row | {"label": "A"} for row in ROWS[:8]])
    description = DESCRIPTION.replace('["yes", "no"]', '["1", "A", "yes", "no"]').replace('lead = "it is"\n', "")
    (goods / "tasks.toml").write_text(description)
    assert load(str(goods), own.known_as(str(goods)).name, (), 4, None).tests


def test_a_file_stands_for_itself_or_goes_with_its_description(goods: Path, tmp_path: Path) -> None:
    assert own.described(str(goods / "train.csv")).tests
    (goods / "tasks.toml").unlink()
    alone = own.described(str(goods / "train.csv"))
    assert (alone.name, alone.train, alone.tests) == ("train", ("train.csv",), ())
    (goods / "judge.csv").rename(goods / "test.csv")
    folder = own.described(str(goods))
    assert [t.kind for t in folder.tests] == ["loss"]


def test_the_collections_layout_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    assert not own.is_own(str(tmp_path)) and not own.is_own(str(tmp_path / "nowhere"))
    assert own.is_own("hub:someone/something:train")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "options"', 'kind = "choice"'), "kind = 'choice': choose from options, loss, text, number"),
        (('options = ["yes", "no"]', 'options = ["yes"]'), "options: list two or more"),
        (
            ('options = ["yes", "no"]', 'options = ["yes", "maybe"]'),
            "judge.csv: row 2: 'label': fine: gold answer 'no'",
        ),
        (("[tests.fine]", "[tests.boolq]"), "there is a test set boolq of commonsense already"),
        (('name = "goods"', 'name = "math"'), "there is a family math already"),
        (('name = "goods"', 'name = "tuning"'), "tuning is no name for data"),
        (('name = "goods"', 'name = "a/b"'), "name = 'a/b': choose letters"),
        (('"judge.csv"', '"none.csv"'), "none.csv: no such file"),
        (('instruction = "text"', 'instruction = "txt"'), "row 1: no column 'txt' (for instruction): there are text"),
        (('lead = "it is"', "leed = 1"), "unknown name 'leed'"),
        (
            ('lead = "it is"', 'lead = "It is"'),
            "none of 24 training responses begins with it: write it there ('It is yes')",
        ),
        (('lead = "it is"', "lead = 1"), "lead = '1': choose a text that is not empty"),
        (('options = ["yes", "no"]', 'options = "yes, no"'), "options = 'yes, no': choose a list of texts"),
        (('kind = "loss"', 'kind = "loss"\nlead = "x"'), "lead goes with kind"),
        (
            ('lead = "it is"\n', ""),
            "24 of 24 training responses have 'it is' before the option: say lead = 'it is'",
        ),
        (("[fields]", "[fields"), "not a TOML file"),
    ],
)
def test_faults_are_named(goods: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in DESCRIPTION
    (goods / "tasks.toml").write_text(DESCRIPTION.replace(*change))
    with pytest.raises(ValueError) as error:
        load(str(goods), own.known_as(str(goods)).name, (), 4, None)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "instruction,output\na,b,c\n", "row 1 has another number of cells"),
        ("t.csv", "instruction,output\na,\n", "'output' is empty in all 1 records"),
        ("t.csv", "question,output\na,b\n", "'instruction' is missing or empty"),
        ("t.jsonl", '{"instruction": "a", "output": ["b"]}\n', "'output' is list, expected text"),
        ("t.jsonl", '{"instruction": "a"}\n', "'output' is missing"),
        ("t.jsonl", '{"messages": []}\n', "messages is an empty list"),
        (
            "t.jsonl",
            '{"messages": [{"role": "user", "content": "a"}]}\n',
            "the assistant says nothing in all 1 records",
        ),
        ("t.jsonl", "[1]\n", "line 1 is list, expected an object"),
        ("t.parquet", "no", "not a readable Parquet file"),
        ("t.xlsx", "no", "no format that is known"),
    ],
)
def test_faults_of_files_are_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as error:
        load(str(tmp_path), own.known_as(str(tmp_path / name)).name, (), 0, None)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_run_on_ones_own_data(goods: Path, cli: Cli) -> None:
    asked = ("run", "plateau", "--data", str(goods), "--preset", "smoke", "--heldout", "8", "--forgetting", "embedded")
    done = cli(*asked, "--methods", "base,sift", "--fractions", "2", "--steps", "3")
    assert done.returncode == 0, done.stderr
    assert "mean over 1 task (fine)" in done.stdout
    tables = Path("results/plateau/tiny/goods")
    lines = list(csv.DictReader((tables / "losses.csv").open()))
    assert [line["method"] for line in lines] == ["base", "sift"]
    assert lines[0]["general-embedded_change"] == "" != lines[1]["general-embedded_change"]
    assert (
        float(lines[0]["general-embedded_nll"]) < 0.2 < float(lines[0]["fine-loss_nll"])
    )  # it knows what it was taught
    base, sift = csv.DictReader((tables / "cost.csv").open())
    assert (
        base["tokens_per_second_unmerged"] == base["adapter_bytes"] == base["merge_seconds"] == ""
    )  # nothing to fold in
    assert all(float(sift[f"tokens_per_second_{way}"]) > 0 for way in ("merged", "unmerged"))
    assert float(sift["adapter_bytes"]) > 0 < float(base["tokens_per_second_merged"])
    again = cli("table", "plateau")
    assert again.returncode == 0 and "tiny/goods/losses.md" in again.stderr  # without the data at hand


def test_losses_say_what_was_cut_off_and_what_training_has_too(goods: Path, cli: Cli) -> None:
    words = "a word and another one, and so on. " * 8_000  # more pieces than a text to see forgetting by has
    (goods / "long.txt").write_text(words)
    (goods / "tasks.toml").write_text(DESCRIPTION + '[tests.long]\nfile = "long.txt"\nkind = "text"\n')
    read = load(str(goods), own.known_as(str(goods)).name, (), 4, None).losses["long"]
    assert len(read) > 200 and " ".join(p.output for p in read) == words.strip()
    write_csv(goods / "judge.csv", ROWS)
    asked = ("run", "plateau", "--data", str(goods), "--preset", "smoke", "--heldout", "8", "--limit", "6")
    assert cli(*asked, "--methods", "base").returncode == 0
    said = Path("results/plateau/tiny/goods/losses.md").read_text()
    assert "Cut off at the 128 tokens of a training example, and measured up to there: long 6 of 6." in said
    assert (
        "Asked in the training set too: fine-loss " in said and "fine " not in said.partition("too: ")[2].split(".")[0]
    )


def test_without_a_training_set_only_the_untouched_model_is_judged(goods: Path, cli: Cli) -> None:
    (goods / "train.csv").unlink()
    done = cli("run", "plateau", "--data", str(goods), "--methods", "lora", "--dry-run")
    assert done.returncode == 2 and "no training set for goods here: without" in done.stderr
    done = cli("run", "plateau", "--data", str(goods), "--methods", "base")
    assert done.returncode == 0, done.stderr


def test_without_a_test_set_there_is_the_held_out_loss(goods: Path, cli: Cli) -> None:
    text = DESCRIPTION.split("[tests.fine]")[0]
    (goods / "tasks.toml").write_text(text)
    done = cli("run", "plateau", "--data", str(goods), "--methods", "base", "--heldout", "0.5")
    assert done.returncode == 0, done.stderr
    assert "Held-out response NLL" in done.stdout and "accuracy" not in done.stdout
    asked = ("run", "plateau", "--data", str(goods), "--methods", "base", "--heldout")
    assert "were of other data or settings" in cli(*asked, "0.25").stderr  # its tables take the place of those
    assert "were of other data or settings" not in cli(*asked, "0.25").stderr


def test_general_text_is_cut_into_pieces_that_hold_all_of_it(tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {'abcdefghijkl'[i]}. " + "word " * (40 * i % 300) for i in range(12))
    (tmp_path / "text.txt").write_text(text)
    name, pieces = general(str(tmp_path / "text.txt"))
    assert name == "general-text.txt" and all(isinstance(p, Plain) and len(p.output) <= 1000 for p in pieces)
    assert " ".join(" ".join(p.output for p in pieces).split()) == " ".join(text.split())
    assert len(set(sources(None, pieces))) == len({p.output for p in pieces}) > 1
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match="no text in it"):
        general(str(tmp_path / "empty.txt"))


def test_examples_without_a_source_keep_the_rule() -> None:
    plain = Example("Who? One. Two words here are enough. Is it so?", "", "", "")
    assert sources(None, [plain, Posed(*vars(plain).values(), source="x"), Posed("other", "", "", "", source="x")]) == [
        0,
        1,
        1,
    ]  # type: ignore[arg-type]


def test_mawps_comes_only_where_it_is_asked_for(tmp_path: Path) -> None:
    record = {"instruction": "How many is 1 + 1?", "input": "", "output": "2", "answer": "2"}
    for task in ("gsm8k", "mawps"):
        (tmp_path / "dataset" / task).mkdir(parents=True)
        for part in ("train", "test"):
            (tmp_path / "dataset" / task / f"{part}.json").write_text(
                json.dumps([record, {**record, "instruction": "?"}])
            )
    assert list(load(str(tmp_path), "math", (), 0, None).tests) == ["gsm8k"]
    asked = load(str(tmp_path), "math", ("mawps",), 0, None)
    assert list(asked.tests) == ["mawps"] and asked.train_source == "gsm8k"
