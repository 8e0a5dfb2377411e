"""Benchmarks as lm-eval's own tasks pose them, over data sets that are made up; and files of mixtures from the hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from smt_bench.data import benchmarks, families, hub
from smt_bench.data.fetch import fetch_data
from smt_bench.data.loading import load
from smt_bench.data.tasks import find_task, gold, parse, score

SUBJECT = "abstract_algebra"
CAPITAL = "def add(a, b):\n    '''Adds.'''\n"


def rows(path: str, name: str | None) -> dict[str, list[dict[str, Any]]]:
    """Made-up records with the fields of the hub's data sets, by split."""
    if path == "cais/mmlu":
        one = [
            {"question": f"What is {i} of {name}?", "choices": ["w", "x", "y", "z"], "answer": i % 4, "subject": name}
            for i in range(6)
        ]
        return {"test": one[:2], "dev": one, "validation": one}
    if path == "openai/gsm8k":
        one = [{"question": f"Tom has {i} pears. How many?", "answer": f"Count.\n#### 1,00{i}"} for i in range(3)]
        return {"test": one, "train": one}
    if path == "SaylorTwift/bbh":
        return {"test": [{"input": f"Is {i} left? Options: - Yes - No", "target": "Yes"} for i in range(50)]}
    if path.endswith("tydiqa"):
        made = [
            {
                "id": f"english--{i}", "title": "t", "context": f"Rivers are long. The Nile is {i // 2} km.",
                "question": f"How long ({i})?", "answers": {"text": [f"{i // 2} km", f"{i // 2} km"], "answer_start": [0, 0]},
            }
            for i in range(4)
        ]  # fmt: skip
        made += [{**m, "id": f"{lang}--{i}"} for lang in LANGUAGES for i, m in enumerate(made[:4])]
        return {"train": made, "validation": made}
    if path == benchmarks.HUMANEVAL:
        test = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
        return {
            "test": [
                {
                    "prompt": CAPITAL,
                    "canonical_solution": "    return a + b\n",
                    "test": test,
                    "entry_point": "add",
                }
            ]
        }
    if path == "allenai/tulu-v2-sft-mixture":
        said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
        return {"train": [{"dataset": d, "id": d, "messages": said} for d in ("flan_v2", "lima", "flan_v2")]}
    return {"train": [{"instruction": f"say {i}", "input": "", "output": str(i), "text": "x"} for i in range(5)]}


LANGUAGES = ("arabic", "bengali", "finnish", "indonesian", "korean", "russian", "swahili", "telugu")


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` gives the made-up records."""

    def given(path: str, name: str | None = None, split: str | None = None, **_: Any) -> Any:
        found = {part: datasets.Dataset.from_list(made) for part, made in rows(path, name).items()}
        return found[split] if split else datasets.DatasetDict(found)

    monkeypatch.setattr(datasets, "load_dataset", given)


@pytest.mark.slow  # lm-eval reads thousands of files
@pytest.mark.parametrize("name", ["mmlu", "gsm", "bbh", "tydiqa"])
def test_a_benchmark_is_what_lm_evals_tasks_ask(name: str, stored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = benchmarks.BENCHMARKS[name]
    only = {"mmlu": (f"mmlu_{SUBJECT}",), "bbh": ("bbh_cot_fewshot_navigate",), "tydiqa": ("tydiqa_goldp_en",)}
    monkeypatch.setitem(benchmarks.BENCHMARKS, name, replace(made, tasks=only.get(name, made.tasks)))
    found = benchmarks.posed(name)
    task = find_task(name)
    first = found[0]
    assert gold(task, first) == {"mmlu": "A", "gsm": 1000.0, "bbh": "Yes", "tydiqa": "0 km"}[name]
    shown = {"mmlu": "Answer:", "gsm": "A:", "bbh": "A: Let's think step by step.", "tydiqa": "Answer:"}[name]
    assert first.instruction.count(shown) == made.shots + 1 and first.instruction.rstrip().endswith(shown)
    if task.graded:
        assert score(task, str(parse(task, f"So the answer is {first.answer}.")), str(gold(task, first))) == 1
    if name == "bbh":
        assert len(found) == 40
    if name == "tydiqa":  # two questions on each passage
        assert [q.source for q in found[::2]] == [q.source for q in found[1::2]]
        assert len({q.source for q in found}) == len(found) / 2


def test_humaneval_begins_with_the_function_and_ends_with_its_test(stored: None) -> None:
    (only,) = benchmarks.posed("humaneval")
    assert only.instruction == benchmarks.COMPLETE + CAPITAL and only.lead == CAPITAL
    names: dict[str, Any] = {}
    exec(f"{only.lead}{only.output}\n\n{only.answer}\n", names)  # as `judged` puts it together
    assert names["add"](1, 2) == 3


def test_the_hub_gives_files_that_load_reads(stored: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "posed", lambda name: _no_hub() if name != "humaneval" else benchmarks.posed(name))
    said: list[str] = []
    root = fetch_data(families.find("instructions"), said.append)
    lost = {line.split()[2] for line in said if "cannot be downloaded" in line}
    assert lost == {"MMLU", "GSM", "BBH", "TyDiQA"}
    flan = (root / "ft-training_set" / "flan_v2.jsonl").read_text().splitlines()
    assert len(flan) == 2 and json.loads(flan[0])["messages"][0] == {"content": "hi", "role": "user"}
    data = load(str(root), "instructions", ["humaneval"], 1, None, mixture="gpt4_alpaca")
    assert len(data.train) == 4 and data.train_source == "gpt4_alpaca" and list(data.tests) == ["humaneval"]
    again: list[str] = []
    fetch_data(families.find("instructions"), again.append)  # only what is not there yet
    assert not any("mixture" in line or "HumanEval" in line for line in again)


def test_without_a_network_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: _no_hub())
    with pytest.raises(
        ValueError, match=r"^no mixture of instructions can be downloaded \(no network\): run `fetch instr"
    ):
        fetch_data(families.find("instructions"), lambda line: None)


def _no_hub() -> Any:
    raise ConnectionError("no network")
