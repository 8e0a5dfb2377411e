"""What runs met that a reader has to know: what was cut, left out or chosen, and what a fraction became."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.cells import Group
from smt_bench.evidence.words import task_title, title
from smt_bench.report.table import Table

# What is known of a tuning, by its hash, and stands in none of its records; below what rests on it.
ERRATA = {
    "ff5b52c9cbb929b5": "Not so of the rates here: tuning ff5b52c9cbb929b5 chose by 30 examples of which 17 are among those that "
    "held-out NLL is of. By this division it would have chosen the same, and without the 17 no difference of two trained rows "
    "moves by more than 0.006 nats (docs/experiments.md).",
}
_SHOWN = 12  # entries of a list before it is cut with "and n more"


def listed(entries: Sequence[str]) -> str:
    """Entries in a row; long lists are cut and say so."""
    more = len(entries) - _SHOWN
    return ", ".join(entries[:_SHOWN]) + (f" and {more} more (all in the CSV file)" if more > 0 else "")


def not_done(left_out: Mapping[str, str], model: str) -> Table:
    """What was asked for, with "all", and is in no table; and why."""
    rows = [(what, why) for what, why in sorted(left_out.items())]
    note = "Asked for by `--methods all`. Nothing was trained; reasons are those that a run of the method alone is refused with."
    return Table(f"Methods not in these tables, {model}", ("method", "why"), rows, [note])


def parts(found: Sequence[Group]) -> list[str]:
    """As `divided`, of the runs behind some cells, and what is known of the tunings behind their rates."""
    tunings = {(r.get("recipe") or {}).get("tuning", ""): None for g in found for r in (*g.done, *g.lost)}
    lines = divided(next((g.run for g in found if g.trains), found[0].run))
    return [*lines, *(ERRATA[name] for name in tunings if name in ERRATA)]


def divided(run: Mapping[str, Any]) -> list[str]:
    """What the held-out examples are for, and which weights are judged; nothing where records are from before that was asked."""
    data, train = run["data"], run["train"]
    if not data.get("tune"):
        return []
    lines = [
        f"Held-out examples: choices (rates, settings, best cells, best weights) are made by {data['tune']} of them, held-out "
        f"NLL is that of the other {data['heldout'] - data['tune']}; no source is in both parts (seed {data['split_seed']})."
    ]
    if data.get("aside") and not data.get("divided"):
        lines.append(
            f"The parts are of these {data['heldout']}: some that choose here are among those that runs which look at all "
            f"{data['aside']} report. Runs of later versions divide all of them."
        )
    if data.get("varies"):
        lines[0] = lines[0].replace(f"(seed {data['split_seed']})", "(seed of the run)")
        lines.append("Data vary with the seed: what is held out, its parts and, where the data are made, the facts.")
    return [*lines, weights(train)]


def weights(train: Mapping[str, Any]) -> str:
    """Which weights are judged, a sentence."""
    if train.get("select", "last") == "last":
        return "Weights: those of the last step."
    return (
        f"Weights: the best by the held-out examples to choose by, looked at every {train['select_every']} steps once the method "
        "is attached, and at the last."
    )


def repeats(found: Sequence[Group]) -> list[str]:
    """Questions that the training set asks several times; nothing where it does not, or where no record says."""
    counts = [(r.get("overlap") or {}).get("repeated") for g in found for r in (*g.done, *g.lost)]
    count = next((c for c in counts if c), None)
    if count is None:
        return []
    return [
        f"Repeated questions: {count:,} training or held-out examples ask what an earlier one asks (case, spaces and punctuation "
        "aside); all copies of a question stand on one side of that split."
    ]


def cut(found: Sequence[Group]) -> list[str]:
    """Responses that the cut-off met, and test prompts beyond the model's positions; nothing where none, or no record says."""
    records = [r for g in found for r in (*g.done, *g.lost) if r.get("cut")]
    parts = []
    for part, where in (("training", "training examples that a run draws"), ("heldout", "held-out examples")):
        counts = [r["cut"][part] for r in records if r["cut"][part]]
        if any(c["empty"] or c["shortened"] for c in counts):
            of, empty, shortened = (_span([c[name] for c in counts]) for name in ("examples", "empty", "shortened"))
            parts.append(f"of the {of} {where}, {empty} keep nothing of their response and {shortened} lose its end")
    lines = [f"Cut off at {records[0]['run']['data']['cutoff']} tokens: {'; '.join(parts)}."] if parts else []
    tests = {task: n for r in records for task, n in r["cut"]["prompts"].items() if n}
    if tests:
        named = ", ".join(f"{task_title(task)} {n:,}" for task, n in tests.items())
        lines.append(f"Test prompts longer than the model's positions, cut from the left: {named}.")
    return lines


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,} to {high:,}" if low < high else f"{high:,}"


def left_out(found: Sequence[Group]) -> list[str]:
    """Layers of the model that methods leave out, or do not find in it; nothing where none, or no record says."""
    records = [(g, r) for g in found for r in (*g.done, *g.lost) if r.get("layers") and r.get("capacity")]
    lines = []
    if share := max((r["layers"]["experts"] / r["capacity"]["total"] for _, r in records), default=0.0):
        lines.append(
            f"Experts: {100 * share:.0f} % of the parameters are matrices of experts, which only full fine-tuning trains."
        )
    lacking = {g.method: r["layers"]["lacking"] for g, r in records if r["layers"]["lacking"]}
    if lacking:
        told = "; ".join(f"{title(method)} without {', '.join(names)}" for method, names in lacking.items())
        lines.append(
            f"Usual layers that the model does not have (of a method that finds none, all linear ones): {told}."
        )
    return [*lines, *chosen(found)]


def chosen(found: Sequence[Group]) -> list[str]:
    """Layers that were asked for in place of a method's usual ones, where all its rows have the same; nothing where none were."""
    by_method: dict[str, set[str]] = {}
    for group in (g for g in found if g.trains):
        for record in (r for r in (*group.done, *group.lost) if r.get("layers")):
            by_method.setdefault(group.method, set()).add(", ".join(record["layers"].get("chosen", [])))
    one = {method: next(iter(names)) for method, names in by_method.items() if len(names) == 1 and any(names)}
    if not one:
        return []
    rest = "" if len(one) == len(by_method) else "; the other methods have their usual ones"
    return [f"Layers that were asked for: {'; '.join(f'{title(m)} {names}' for m, names in one.items())}{rest}."]


def realised(found: Sequence[Group]) -> list[str]:
    """Trainable fractions that are more than 5 % off what their column says: one unit more or less is nearer to nothing."""
    off = [
        f"{g.label} is {100 * g.capacity['fraction']:.3g} %"
        for g in found
        if g.fraction and g.capacity and abs(g.capacity["fraction"] / g.fraction - 1) > 0.05
    ]
    return (
        [f"Realised fractions more than 5 % off their column, one unit being larger than that: {listed(off)}."]
        if off
        else []
    )
