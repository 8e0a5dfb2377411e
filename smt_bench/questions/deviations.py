"""What a table says of its analysis: when it was written down, what deviates from it, and what was looked at how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.questions.analysis import Seen, contents, found_by
from smt_bench.questions.experiment import Experiment, TrainingExperiment
from smt_bench.records import looks as looking
from smt_bench.records.index import Index
from smt_bench.records.looks import FILE, Look
from smt_bench.records.runs import digest


def lines(experiment: Experiment, index: Index, found: Seen) -> list[str]:
    """What stands below a table about its analysis; nothing where none was written.

    Args:
        experiment: of the table.
        index: of its folder, on its setting.
        found: what the table is made of.
    """
    kept = looking.analyses(index.path)["analyses"].get(index.latest or "")
    if kept is None or not isinstance(experiment, TrainingExperiment):
        return []
    declared = kept["declared"]
    if digest(declared) != kept["sha256"]:
        return [
            f"{FILE} was changed after it was written: its hash is not {kept['sha256']}. No claim here was declared before."
        ]
    when = (
        "before the first run"
        if not kept["finished_before"]
        else (f"when {kept['finished_before']} of its {kept['runs']} runs were finished already")
    )
    margins = declared["margins"]
    actual = contents(experiment, [r["run"] for r in found.records])
    count, cells = sum(not claim["control"] for claim in declared["claims"]), actual["comparisons"]
    claims = f"{count} claim{'s' if count != 1 else ''}" + (f" in {cells} comparisons" if cells != count else "")
    told = (
        f"Analysis written down {when}: {FILE}, hash {kept['sha256']}; {claims}, margins "
        f"{margins['points']:g} point and {margins['nats']:g} nats, seeds {', '.join(map(str, declared['seeds'])) or 'none'}."
    )
    told += _power(declared.get("power"))
    told += f" Judged first: {declared['outcome']}." if declared.get("outcome") else ""
    first, later = found.looks[0], found.looks[1:]
    batches = [*first.batches[1:], *(batch for look in later if not look.missing for batch in look.batches)]
    actual |= found_by(_rates_of(r.get("recipe") or {}) for r in found.records)
    apart = deviations(
        {**declared, "seeds": sorted({*declared["seeds"], *(s for b in batches for s in b["seeds"])})}, actual
    )
    told += _unsaid(declared, actual)
    lost = sum(r["status"] != "done" for r in found.records)
    apart += [f"{lost} runs without numbers"] if lost else []
    said = [told, f"Deviates from it: {'; '.join(apart)}." if apart else "Nothing deviates from it."]
    said += [_added(batch, batch in first.batches) for batch in batches if "sha256" in batch]
    if first.missing:
        said.append(
            f"No claim is decided before the last of {len(first.keys)} declared runs: {first.missing} missing. Where some can no "
            f"longer be made, take their keys out of {FILE}."
        )
    said += [times_told(found.times)] if found.times > 1 else []
    said += [
        f"{look} are not shown before the last of them: {look.missing} missing. Where some can no longer be made, take their "
        f'entry out of "later" in {FILE}.'
        for look in later
        if look.missing
    ]
    return said


def _rates_of(recipe: Mapping[str, Any]) -> str:
    """The tuning behind a record's rate, unless another rate was asked for."""
    found: str = recipe.get("tuning", "")
    return "" if "lr" in recipe.get("changed", {}) else found


def _unsaid(declared: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    """What it does not name: files of older versions have neither a preset's tuning nor power, some experiments no claims."""
    unsaid = []
    if actual["rates"] and "rates" not in declared:
        unsaid.append(f"the tuning behind the rates here ({', '.join(actual['rates'])})")
    if declared["claims"] and "power" not in declared:
        unsaid.append("what the design was to find")
    said = f" It does not name {' nor '.join(unsaid)}." if unsaid else ""
    return said + ("" if declared["claims"] else " It declares no claim: any verdict here is exploratory.")


def _power(found: Mapping[str, Any] | None) -> str:
    """What the design was to find, as far as it was written down."""
    if not found:
        return ""
    sizes = []
    for name, digits in (("points", 1), ("nats", 4)):
        if name in found:
            one, strictest = (f"{found[name][kind]:.{digits}f} {name}" for kind in ("one", "strictest"))
            sizes.append(
                f"{one} in one comparison" + (f", {strictest} in the strictest" if found["comparisons"] > 1 else "")
            )
    return f" With 80 % power it was to find {'; '.join(sizes)} ({found['variances']})." if sizes else ""


def times_told(times: int) -> str:
    """That p values pay for looks."""
    return f"The claims were looked at {times} times, with runs added in between: their p values count {times} times."


def _added(batch: Mapping[str, Any], first: bool) -> str:
    asked = {name: batch[name] for name in ("seeds", "keys", "joins")}
    before, count = batch["finished_before"], len(batch["keys"])
    when = "before the first of them" if not before else f"when {before} of them were finished"
    return (
        f"{Look((batch,), tuple(batch['keys']), 0)} {'were' if count != 1 else 'was'} added "
        f"{'before' if first else 'after'} a look at the others, written down {when}: hash {batch['sha256']}"
        f"{', which is no longer theirs' if digest(asked) != batch['sha256'] else ''}."
    )


def deviations(declared: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """In words, what is otherwise than it was declared."""
    found = []
    rates = ("rates",) if "rates" in declared else ()  # which older files do not have
    for name in ("claims", "methods", "fractions", "seeds", "tuning", *rates):
        before, now = (_named(name, values[name]) for values in (declared, actual))
        added, left = [v for v in now if v not in before], [v for v in before if v not in now]
        found += [f"{name} added: {', '.join(added)}"] if added else []
        found += [f"{name} declared but not here: {', '.join(left)}"] if left else []
    for name in ("margins", "rule", "heldout", "weights", "model"):
        if declared[name] != actual[name]:
            changed = "" if name in ("rule", "model") else f" ({_plain(declared[name])}, now {_plain(actual[name])})"
            found.append(f"another {name}{changed}")
    return found


def _named(name: str, values: Sequence[Any]) -> list[str]:
    if name == "claims":
        return [f"{claim['text']!r} ({claim['ahead']}, {claim['behind']})" for claim in values]
    return [f"{100 * value:g} %" if name == "fractions" else str(value) for value in values]


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
