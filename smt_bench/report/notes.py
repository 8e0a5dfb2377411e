"""What a reader of an accuracy table has to know, in sentences: the lines below tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from smt_bench.data.tasks import HARNESS, TASKS
from smt_bench.evidence.cells import Group, flat, trained_on
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.machine.borders import markdown
from smt_bench.records.store import Record
from smt_bench.report.conditions import listed
from smt_bench.report.table import Made

OVERLAP_MARK = "†"
COMMON = 100  # an option is common where it is right once in so many questions
VERSIONS = ("torch", "transformers", "peft")  # the packages that move numbers most


def seeds(counts: Sequence[int]) -> str:
    """How many seeds stand behind numbers, e.g. "3 seeds" or "1 to 3 seeds"."""
    low, high = min(counts), max(counts)
    return f"{low} to {high} seeds" if low < high else f"{high} seed{'s' if high > 1 else ''}"


def trained_seeds(summary: pd.DataFrame) -> list[int]:
    """Seed counts of the cells that a seed can change."""
    return [int(n) for n in summary.loc[summary["trained"] & (summary["n_seeds"] > 0), "n_seeds"]]


def cell_labels(frame: pd.DataFrame) -> list[str]:
    """Names of a summary's rows, e.g. "SMT 0.84 %"."""
    pairs = zip(frame["method"], frame["fraction_pct"])
    return [title(m) + ("" if pd.isna(f) else f" {percent(f)}") for m, f in pairs]


def coverage(summary: pd.DataFrame) -> str:
    """What the averages average."""
    tasks = summary["tasks"].iloc[0]
    if not tasks:
        return "No task was evaluated by all finished runs: accuracy is blank."
    names = ", ".join(map(task_title, tasks))
    return (
        f"Accuracy (%): mean over {len(tasks)} task{'s' if len(tasks) > 1 else ''} ({names}), "
        f"every task counting the same; {summary['n_examples'].max():,} test examples."
    )


def floor(found: Sequence[Group], tasks: Sequence[str]) -> list[str]:
    """What needs no model: accuracy of answers drawn at random, and of the commonest one given always; a sentence.

    Nothing is known of it where a program is judged, nor of lm-eval's own tasks, whose options are not ours to see.
    """
    record = next((g.done[0] for g in found if g.done), None)
    unknown = [t for t in tasks if t.startswith(HARNESS) or (t in TASKS and TASKS[t].runs_code)]
    tasks = [t for t in tasks if t not in unknown]
    if record is None or not tasks:
        return []
    always, chance, without = [], [], []
    for task in tasks:
        gold = Counter(record["evaluation"][task]["examples"]["gold"])
        total, options = sum(gold.values()), TASKS[task].options if task in TASKS else None
        always.append(100 * max(gold.values()) / total)
        if options is None:
            without.append(task_title(task))
            continue
        # An option that is hardly ever right is one that few of the questions offer: ARC's fifth.
        rare = 0 if total < COMMON else sum(gold[option] < total / COMMON for option in options)
        chance.append(100 / max(len(options) - rare, 1))
    text = f"always the commonest answer of each task: {sum(always) / len(always):.1f} %"
    text += f" (without {listed([task_title(t) for t in unknown])})" if unknown else ""
    if without:
        return [f"Without a model: {text}; by chance next to nothing where no options are offered ({listed(without)})."]
    return [f"Without a model: by chance {sum(chance) / len(chance):.1f} %, {text}."]


def spread(summary: pd.DataFrame, value: str = "accuracy", ci: str = "ci95") -> str:
    """Seeds, and what ± means, of a column and its intervals."""
    counts = trained_seeds(summary)
    text = f"{seeds(counts)} per trained cell." if counts else "No trained cell has a finished run."
    if any(n > 1 for n in counts):
        text += " ±: 95 % Student-t interval over seeds."
        several = summary["trained"] & (summary["n_seeds"] > 1)
        if (several & summary[value].notna() & summary[ci].isna()).any():
            same = "accuracy" if value == "accuracy" else "value"
            text += f" No ± there: all seeds gave the same {same}, which is no spread to judge by."
    if any(n == 1 for n in counts):
        text += " One seed says nothing about the spread between seeds: no ± there."
    if ((summary["n_seeds"] > 0) & ~summary["trained"]).any():
        names = sorted(set(summary.loc[~summary["trained"], "method"]))
        once = "once" if summary.loc[~summary["trained"], "n_seeds"].max() < 2 else "once on the data of every seed"
        text += f" {listed([title(n) for n in names])}: nothing is trained, evaluated {once}."
    return text


def losses(found: Sequence[Group]) -> list[str]:
    """Runs without numbers, by name, and superseded ones."""
    lines = []
    lost = [(g, r) for g in found for r in g.lost]
    if lost:
        named = [f"{g.label} seed {r['run']['seed']} {r['status'].replace('_', ' ')}{_where(r)}" for g, r in lost]
        lines.append(f"Runs without numbers, in no average: {listed(named)}.")
    for g in found:
        if g.older:
            here, there = flat(g.run), flat(g.older[-1]["run"])
            changed = sorted(p for p in here.keys() | there.keys() if p != "seed" and here.get(p) != there.get(p))
            keys = [r["key"] for r in g.older]
            lines.append(f"{g.label}: older runs with other settings ({listed(changed)}) left out: {listed(keys)}.")
    return lines


def _where(record: dict[str, Any]) -> str:
    step = "" if record.get("step") is None else f"step {record['step']}"
    message = "" if record["status"] == "diverged" else markdown((record.get("message") or "")[:80])
    inside = ", ".join(part for part in (step, message) if part)
    return f" ({inside})" if inside else ""


def format_failures(summary: pd.DataFrame) -> str:
    """Answers that could not be read; these count as wrong."""
    if summary["format_failure_pct"].isna().all():
        return "Format failures: unknown, no run was evaluated."
    bad = summary[summary["format_failure_pct"] > 0].sort_values("format_failure_pct", ascending=False, kind="stable")
    if bad.empty:
        return "Every answer could be read (format failures: 0 %)."
    parts = [f"{name} {rate:.2g} %" for name, rate in zip(cell_labels(bad), bad["format_failure_pct"])]
    return f"Answers that could not be read, counted as wrong: {listed(parts)}."


def overlapping(found: Sequence[Group]) -> set[str]:
    """The test sets that share questions with the training set."""
    return {task for task, count in (trained_on(found) or {}).items() if count}


def overlap(found: Sequence[Group], tasks: Sequence[str]) -> list[str]:
    """What `OVERLAP_MARK` stands for; nothing where no cell has it."""
    shared = trained_on(found) or {}
    done = next((g.done[0] for g in found if g.trains and g.done), None)
    if done is None or not any(shared.get(t) for t in tasks):
        return []
    parts = [f"{task_title(t)} {shared[t]:,} of {done['evaluation'][t]['n']:,}" for t in tasks if shared.get(t)]
    return [
        f"{OVERLAP_MARK}: the training set holds questions of the test set, or of one of those averaged, word for word "
        f"(case, spaces and punctuation aside): {', '.join(parts)}."
    ]


def provenance(found: Sequence[Group]) -> str:
    """Where each number comes from."""
    made = [r.get("environment") or {} for g in found for r in (*g.done, *g.lost)]
    commits = sorted({e["commit"][:10] + (" with changes" if e.get("dirty") else "") for e in made if e.get("commit")})
    code = f" Code: commit {listed(commits)}." if commits else ""
    where = made_with([r for g in found for r in (*g.done, *g.lost)])
    return Made(
        f"The keys of all runs stand in the CSV file; each is a file runs/<key>.json in the results folder.{code} {where}"
    )


def made_with(records: Sequence[Record]) -> str:
    """Versions and hardware behind numbers, a sentence; all of them where they are not the same."""
    made = [r.get("environment") or {} for r in records]
    packages = []
    for name in VERSIONS:
        found = sorted({str(e["packages"][name]) for e in made if (e.get("packages") or {}).get(name)})
        packages += [f"{name} {' and '.join(found)}"] if found else []
    places = sorted({", ".join(e["gpus"]) if e.get("gpus") else str(e["cpu"]) for e in made if e.get("cpu")})
    text = f"Made with {', '.join(packages) or 'unknown versions'} on {markdown(' and on '.join(places) or 'unknown hardware')}."
    loose = any(str(e.get("repeatable", "")).startswith("not") for e in made)
    return text + (" Not bitwise repeatable: on a GPU without --deterministic." if loose else "")
