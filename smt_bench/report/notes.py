"""What a reader of an accuracy table has to know, in sentences: the lines below tables and figures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from smt_bench.data.prompts import SMT_CODE
from smt_bench.data.tasks import HARNESS, TASKS
from smt_bench.evidence.cells import Group, flat, trained_on
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.machine.borders import markdown
from smt_bench.records.store import Record
from smt_bench.report.conditions import cut, left_out, listed, parts, realised, repeats

OVERLAP_MARK = "†"
COMMON = 100  # an option is common where it is right once in so many questions
VERSIONS = ("torch", "transformers", "peft")  # the packages that move numbers most
LAST_WEIGHTS = "the last weights are judged, not those with the least validation loss of every 30 steps; "
UNLIKE_CODE = (
    "the literal <s> of their prompts is left to the tokenizer; a step's loss is the mean over its tokens, not over each "
    "GPU's."
)


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
    """What needs no model: accuracy of answers drawn at random, and of the commonest one given always; a sentence."""
    record = next((g.done[0] for g in found if g.done), None)
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
    if without:
        return [f"Without a model: {text}; by chance next to nothing where no options are offered ({listed(without)})."]
    return [f"Without a model: by chance {sum(chance) / len(chance):.1f} %, {text}."]


def spread(summary: pd.DataFrame) -> str:
    """Seeds, and what ± means."""
    counts = trained_seeds(summary)
    text = f"{seeds(counts)} per trained cell." if counts else "No trained cell has a finished run."
    if any(n > 1 for n in counts):
        text += " ±: 95 % Student-t interval over seeds."
        several = summary["trained"] & (summary["n_seeds"] > 1)
        if (several & summary["accuracy"].notna() & summary["ci95"].isna()).any():
            text += " No ± there: all seeds gave the same accuracy, which is no spread to judge by."
    if any(n == 1 for n in counts):
        text += " One seed says nothing about the spread between seeds: no ± there."
    if ((summary["n_seeds"] > 0) & ~summary["trained"]).any():
        names = sorted(set(summary.loc[~summary["trained"], "method"]))
        once = "once" if summary.loc[~summary["trained"], "n_seeds"].max() < 2 else "once on the data of every seed"
        text += f" {listed([title(n) for n in names])}: nothing is trained, evaluated {once}."
    return text


def setting(found: Sequence[Group]) -> list[str]:
    """Model, data, training and evaluation, as the runs state them."""
    run = next((g.run for g in found if g.trains), found[0].run)
    model, data, train, evaluation = (run[part] for part in ("model", "data", "train", "evaluation"))
    way = data["train_on_inputs"]  # or, where the rows differ in it, a text
    said = f"{'prompt and response' if way else 'response only'} (train_on_inputs={way})"
    loss = way if isinstance(way, str) else f"loss on {said}"
    content = "other facts or records with every seed" if data.get("varies") else f"SHA-256 {data['train_sha256'][:12]}"
    looked_at = f", {data['heldout']} of them looked at" if data.get("aside") else ""
    held = f"{data.get('aside') or data['heldout']} examples held out{looked_at}"
    lines = [
        f"Model: {markdown(model['name'])}, weights {markdown(model['weights'])}, revision {markdown(model['revision'])}.",
        f"Training data: {markdown(data['train'])} ({content}), template {data['template']}, "
        f"{loss}, cut-off {data['cutoff']} tokens, {held}.",
        *parts(found),
        *repeats(found),
        *cut(found),
        *left_out(found),
    ]
    if any(g.trains for g in found):
        lines += [
            f"Training: {train['steps']} steps, batch size {train['batch_size']}, {train['optimizer']}, "
            f"{betas(train)}{train['schedule']} schedule with {train['lr_warmup_steps']} warm-up steps, {train['precision']}.",
            *in_halves(found),
            *bases(found),
            *own_schedules(found),
            f"Learning rates: {_by_method(found, 'lr')}.",
            *own_recipe(found),
            *realised(found),
        ]
    protocol = f"Evaluation: protocol {evaluation['protocol']} (version {evaluation['version']})"
    if evaluation["protocol"] != "likelihood" or any(TASKS[t].generated for t in evaluation["tasks"] if t in TASKS):
        protocol += f", generated answers with {evaluation['beams']} beam{'s' if evaluation['beams'] > 1 else ''}"
        if (penalty := evaluation.get("repetition_penalty", 1)) != 1:
            protocol += f" and a repetition penalty of {penalty:g}"
    lines.append(protocol + ".")
    lines += [f"{name}: {said}." for name, said in evaluation["tasks"].items() if name.startswith(HARNESS)]
    best = train.get("select", "last") == "best"
    unlike = f"Unlike SMT's released scripts: {'' if best else LAST_WEIGHTS}{UNLIKE_CODE}"
    return lines if data["template"] != SMT_CODE else [*lines, unlike]


def own_recipe(found: Sequence[Group]) -> list[str]:
    """What was asked for in place of a recipe's choices; nothing where nothing was."""
    said: dict[str, dict[str, dict[tuple[str, str], list[str]]]] = {}
    for group in found:
        for record in (*group.done, *group.lost):
            if own := record.get("recipe"):
                for what, (was, now) in own["changed"].items():
                    values = said.setdefault(own["name"], {}).setdefault(what, {})
                    names = values.setdefault((_plain(was), _plain(now)), [])
                    if group.method not in names:
                        names.append(group.method)
    lines = []
    for name, changed in said.items():
        parts = []
        for what, values in changed.items():
            for (was, now), names in values.items():
                whose = f" of {listed([title(n) for n in names])}" if what in ("lr", "weight_decay") else ""
                parts.append(f"{what}{whose} {now} (recipe: {was})")
        if parts:
            lines.append(f"Unlike recipe {name}, as asked for: {'; '.join(parts)}.")
    return lines


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else markdown(json.dumps(value))


def betas(train: dict[str, Any]) -> str:
    """Adam's decay rates where they are not its usual ones, e.g. "betas 0.9 and 0.95, "."""
    first, second = train["betas"]
    return "" if (first, second) == (0.9, 0.999) else f"betas {first:g} and {second:g}, "


def in_halves(found: Sequence[Group]) -> list[str]:
    """How each method trains in bf16; nothing for float32."""
    ways: dict[str | None, dict[str, None]] = {}
    for g in (g for g in found if g.trains and g.run["train"]["precision"] == "bf16"):
        ways.setdefault(g.run["method"].get("half"), {})[title(g.method)] = None
    if not ways:
        return []
    parts = [
        f"{listed(list(names))}: {half or 'by an earlier version, without autocast'}" for half, names in ways.items()
    ]
    return [
        "bf16: forward passes, those of the evaluation too, under bf16 autocast; what trains: " + "; ".join(parts) + "."
    ]


def bases(found: Sequence[Group]) -> list[str]:
    """Which rows stand on a base of 4 bits; nothing where none does."""
    small = [g for g in found if g.run["train"].get("base")]
    if not small:
        return []
    which = "all rows" if len(small) == len(found) else listed(list(dict.fromkeys(title(g.method) for g in small)))
    return [
        f"A frozen base of 4 bits under {which}: NF4, blocks of 64, double quantization (bitsandbytes) in all linear layers of "
        "the repeated blocks; embeddings, output layer and norms as they are. Judged as trained, over the 4-bit base, not merged."
    ]


def own_schedules(found: Sequence[Group]) -> list[str]:
    """The methods whose tuning has a learning-rate schedule of its own; nothing where none has."""
    names = sorted({g.method for g in found if g.run["method"]["config"].get("schedule") == "fresh"})
    return (
        [f"Tuning after the warm-up has a learning-rate schedule of its own: {listed([title(n) for n in names])}."]
        if names
        else []
    )


def _by_method(found: Sequence[Group], setting_name: str) -> str:
    cells: dict[str, dict[Any, list[str]]] = {}
    for g in (g for g in found if g.trains):
        share = "" if g.fraction_pct is None else percent(g.fraction_pct)
        cells.setdefault(g.method, {}).setdefault(g.run["train"][setting_name], []).append(share)
    parts = []
    for method, values in cells.items():
        for value, shares in values.items():
            parts.append(f"{title(method)} {value:g}" + (f" ({', '.join(shares)})" if len(values) > 1 else ""))
    return ", ".join(parts)


def deviations(found: Sequence[Group]) -> list[str]:
    """Training settings that are not the same in all cells, and methods in several versions."""
    values: dict[str, dict[str, list[Group]]] = {}
    for g in (g for g in found if g.trains):
        settings = {path: v for path, v in flat(g.run["train"], "train.").items() if path != "train.lr"}
        settings[f"{g.method}.version"] = g.run["method"]["version"]
        for path, value in settings.items():
            values.setdefault(path, {}).setdefault(json.dumps(value), []).append(g)
    lines = []
    for path, by_value in values.items():
        if len(by_value) > 1:
            parts = [f"{value} ({listed([g.label for g in groups])})" for value, groups in by_value.items()]
            lines.append(f"Not the same everywhere: {path} is {'; '.join(parts)}.")
    return lines


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
    return f"The keys of all runs stand in the CSV file; each is a file runs/<key>.json in the results folder.{code} {where}"


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
