"""The SpIEL paper's benchmarks (its appendix B) as lm-eval's own tasks pose them: documents, examples shown before, answers.

What lm-eval's task would ask is the user's message; how it is answered and judged is this package's (`evaluation`). Of GSM 200
questions are drawn, of each of BBH's tasks 40, of each of TyDiQA's languages 100, as the paper has it (which, it does not say).

lm-eval's HumanEval cannot be built without running code through `evaluate` as soon as it is imported; its documents are read as
its file says, and asked for in the words of the paper's evaluation script.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from smt_bench.data.example import Example, Posed
from smt_bench.data.sources import source

SEED = 0  # of what is drawn
HUMANEVAL = "openai/openai_humaneval"
COMPLETE = "Complete the following python function.\n\n\n"
LANGUAGES = ("ar", "bn", "en", "fi", "id", "ko", "ru", "sw", "te")


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark is made of lm-eval's tasks.

    Attributes:
        tasks: theirs, or groups of them.
        shots: examples shown before.
        most: questions of each task at most; None: all.
        answer: the gold answers of a document, one per line, from the task and the document; None: the task's target.
        shared: what of a document others may share; None: its question.
    """

    tasks: tuple[str, ...]
    shots: int
    most: int | None = None
    answer: Callable[[Any, dict[str, Any]], str] | None = None
    shared: Callable[[dict[str, Any]], str] | None = None


BENCHMARKS = {
    "mmlu": Benchmark(("mmlu",), 5, answer=lambda task, doc: str(task.doc_to_choice(doc)[task.doc_to_target(doc)])),
    "gsm": Benchmark(("gsm8k_cot",), 8, 200),
    "bbh": Benchmark(("bbh_cot_fewshot",), 3, 40),
    "tydiqa": Benchmark(
        tuple(f"tydiqa_goldp_{language}" for language in LANGUAGES),
        1,
        100,
        lambda task, doc: "\n".join(dict.fromkeys(" ".join(text.split()) for text in doc["answers"])),
        lambda doc: str(doc["context"]),
    ),
}


def posed(name: str) -> list[Posed]:
    """The questions of a benchmark; lm-eval gets their data from the hub, or from where they were put before.

    Raises:
        Exception: whatever `datasets` raises where they cannot be had.
    """
    return _programs() if name not in BENCHMARKS else list(_questions(BENCHMARKS[name]))


def _questions(benchmark: Benchmark) -> Iterator[Posed]:
    tasks = _manager().load(list(benchmark.tasks))["tasks"]
    for name in sorted(tasks):
        task = tasks[name]
        task.set_fewshot_seed(SEED)
        for doc in _drawn(list(task.eval_docs), benchmark.most):
            asked = str(task.doc_to_text(doc))
            answer = benchmark.answer(task, doc) if benchmark.answer else str(task.doc_to_target(doc))
            shared = benchmark.shared(doc) if benchmark.shared else "\n".join(source(Example(asked, "", "", "")))
            text = str(task.fewshot_context(doc, benchmark.shots))
            yield Posed(text, "", answer.partition("\n")[0], answer, source=shared)


@cache  # it reads thousands of files
def _manager() -> Any:
    from lm_eval.tasks import TaskManager  # seconds

    return TaskManager()


def _programs() -> list[Posed]:
    import datasets

    return [
        Posed(
            COMPLETE + doc["prompt"],
            "",
            doc["canonical_solution"],
            f"{doc['test']}\ncheck({doc['entry_point']})",
            lead=doc["prompt"],
            source=doc["prompt"],
        )
        for doc in datasets.load_dataset(HUMANEVAL, split="test")
    ]


def _drawn(docs: Sequence[dict[str, Any]], most: int | None) -> Sequence[dict[str, Any]]:
    if most is None or len(docs) <= most:
        return docs
    return [docs[i] for i in sorted(random.Random(SEED).sample(range(len(docs)), most))]
