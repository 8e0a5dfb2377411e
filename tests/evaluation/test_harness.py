"""lm-eval's own tasks: numbers are kept as it gives them, what decides them is in the key, and what does not fit is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from helpers import Cli, small_tokenizer, tiny_llama

from smt_bench.evaluation import harness

CHOICE = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/sums.jsonl, train: FOLDER/sums.jsonl}}
output_type: multiple_choice
test_split: test
fewshot_split: train
num_fewshot: 1
doc_to_text: "{{q}} ="
doc_to_target: right
doc_to_choice: options
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 2.5}
"""
WRITTEN = (
    CHOICE.replace("task: sums", "task: written").replace("multiple_choice", "generate_until").replace("acc", "exact_match")
    .replace("doc_to_target: right\ndoc_to_choice: options", 'doc_to_target: "{{options[right]}}"')
    + 'generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}\n'
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = [{"q": f"{i} + 1", "options": [str(i + 1), str(i), "7 crayons"], "right": 0} for i in range(9)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for name, text in (("sums", CHOICE), ("written", WRITTEN)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("FOLDER", str(tmp_path)))
    harness.tasks_of.cache_clear()
    return tmp_path


def found(name: str, limit: int | None = None) -> dict[str, Any]:
    return harness.evaluate(tiny_llama(), small_tokenizer(), [name], limit, 4, None)[name]


def test_a_choice_is_scored_as_by_a_naive_loop(folder: Path) -> None:
    name = f"lm-eval:{folder}/sums.yaml@0"
    columns = found(name)
    model, tokenizer = tiny_llama().eval(), small_tokenizer()
    docs = [json.loads(line) for line in (folder / "sums.jsonl").read_text().splitlines()]
    for i, doc in enumerate(docs):
        scores = []
        for option in doc["options"]:
            head = tokenizer(f"{doc['q']} =").input_ids
            ids = tokenizer(f"{doc['q']} = {option}").input_ids
            with torch.no_grad():
                logps = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(logps[t - 1, ids[t]]) for t in range(len(head), len(ids))))
        best = str(max(range(3), key=scores.__getitem__))
        assert (columns["gold"][i], columns["prediction"][i], columns["correct"][i]) == ("0", best, int(best == "0"))
        assert math.isclose(columns["loglik"][i], scores[0], rel_tol=1e-3)
    assert columns["item"] == list(range(9)) and "text" not in columns


def test_written_answers_keep_their_text(folder: Path) -> None:
    columns = found(f"lm-eval:{folder}/written.yaml", 5)
    assert len(columns["gold"]) == len(columns["text"]) == 5 and len(set(columns["item"])) == 5
    for right, said, gold, text in zip(*(columns[k] for k in ("correct", "prediction", "gold", "text"))):
        assert (said == gold) == bool(right) and isinstance(text, str)


@pytest.mark.parametrize("split", ["train", "test"])  # the question itself is never among what is shown
def test_examples_shown_are_lm_evals_for_any_part_of_the_questions(
    folder: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM

    (folder / "sums.yaml").write_text(
        CHOICE.replace("FOLDER", str(folder)).replace("fewshot_split: train", f"fewshot_split: {split}")
    )
    name = f"lm-eval:{folder}/sums.yaml@2"
    model = HFLM(pretrained=tiny_llama(), tokenizer=small_tokenizer(), backend="causal", batch_size=4)
    tasks = harness.tasks_of(name)
    index = harness._manager(True)  # without one it reads the files of all its tasks
    whole = lm_eval.simple_evaluate(
        model, tasks=list(tasks.values()), num_fewshot=2, bootstrap_iters=0, task_manager=index
    )
    alone = {sample["doc_id"]: sample["filtered_resps"][0][0] for sample in whole["samples"]["sums"]}
    assert len({round(value, 3) for value in alone.values()}) > 1

    def same(columns: dict[str, Any], count: int) -> bool:
        pairs = [(value, alone[item]) for item, value in zip(columns["item"], columns["loglik"], strict=True)]
        return len(pairs) == count and all(math.isclose(a, b, rel_tol=1e-4) for a, b in pairs)

    harness.tasks_of.cache_clear()
    kind, looks = type(next(iter(tasks.values()))), list[int]()
    docs = kind.eval_docs.fget
    monkeypatch.setattr(kind, "eval_docs", property(lambda task: looks.append(1) or docs(task)))  # it makes them anew
    assert same(found(name), 9) and same(found(name), 9)  # and again in the same process
    before = len(looks) / 2
    assert same(found(name, 4), 4)
    assert len(looks) - 2 * before <= before + 1
    monkeypatch.setattr(harness.parallel, "share", lambda items: items[1::2])
    assert same(found(name), 4)


def test_the_key_says_what_decides_the_numbers(folder: Path) -> None:
    name = f"lm-eval:{folder}/sums.yaml"
    said = harness.described(name, None)
    assert "version 2.5, 1-shot drawn over all questions, acc, config" in said and "9 questions" in said
    assert harness.described(f"{name}@3", None) != said and "3-shot" in harness.described(f"{name}@3", None)
    assert "4 questions" in harness.described(name, 4)
    lines = (folder / "sums.jsonl").read_text()
    (folder / "sums.jsonl").write_text(lines.replace("crayons", "pencils"))
    harness.tasks_of.cache_clear()
    changed = harness.described(name, None)
    assert changed != said and changed.split(", 9 ")[0] == said.split(", 9 ")[0]  # the questions, nothing else


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("none.yaml", ("", ""), "no such file"),
        ("sums.yaml", ("metric: acc", "metric: perplexity"), "no metric of right and wrong"),
        ("sums.yaml", ("FOLDER/sums.jsonl", "FOLDER/none.jsonl"), "cannot be loaded"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, name: str, change: tuple[str, str], told: str) -> None:
    (folder / "sums.yaml").write_text(CHOICE.replace(*change).replace("FOLDER", str(folder)))
    with pytest.raises(ValueError, match=told) as error:
        harness.described(f"lm-eval:{folder}/{name}", None)
    assert "\n" not in str(error.value)


def test_a_run_judged_by_lm_evals_task(folder: Path, cli: Cli) -> None:
    name = f"lm-eval:{folder}/sums.yaml"
    done = cli("run", "plateau", "--preset", "smoke", "--methods", "base", "--tasks", name)
    assert done.returncode == 0, done.stderr
    table = next(Path("results/plateau").rglob("table3.md")).read_text()
    assert "lm-eval 0." in table and "version 2.5, 1-shot" in table
    record = json.loads(next(Path("results/runs").glob("*.json")).read_bytes())
    assert list(record["evaluation"]) == [name] and record["evaluation"][name]["n"] == 9


@pytest.mark.parametrize("limit", [(), ("--limit", "4")])
def test_a_record_of_lm_evals_task_is_repeated(folder: Path, cli: Cli, limit: tuple[str, ...]) -> None:
    name = f"lm-eval:{folder}/sums.yaml"
    done = cli("run", "plateau", "--preset", "smoke", "--methods", "base", "--tasks", name, *limit)
    assert done.returncode == 0, done.stderr
    key = next(Path("results/runs").glob("*.json")).stem
    again = cli("rerun", key)
    assert again.returncode == 0 and "DIFFERS" not in again.stdout, again.stdout + again.stderr
