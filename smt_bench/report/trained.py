"""How the runs behind a table were trained and judged, in sentences below it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from smt_bench.data.prompts import SMT_CODE
from smt_bench.data.tasks import HARNESS, TASKS
from smt_bench.evidence.cells import Group, flat
from smt_bench.evidence.words import percent, title
from smt_bench.machine.borders import markdown
from smt_bench.report.conditions import cut, left_out, listed, parts, realised, repeats
from smt_bench.report.table import Made

LAST_WEIGHTS = "the last weights are judged, not those with the least validation loss of every 30 steps; "
MANY_METHODS = 8  # more than these fill a page with their settings
UNLIKE_CODE = (
    "the literal <s> of their prompts is left to the tokenizer; a step's loss is the mean over its tokens, not over each "
    "GPU's."
)


def setting(found: Sequence[Group]) -> list[str]:
    """What is unusual about the runs, then model, data, training and evaluation, as they state them (`Made`)."""
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
    ]
    unusual = [*cut(found), *left_out(found)]
    if any(g.trains for g in found):
        unusual += [*bases(found), *own_recipe(found), *realised(found)]
        lines += [
            f"Training: {train['steps']} steps, batch size {train['batch_size']}, {train['optimizer']}, "
            f"{betas(train)}{train['schedule']} schedule with {train['lr_warmup_steps']} warm-up steps, {train['precision']}.",
            *in_halves(found),
            *own_schedules(found),
            f"Learning rates: {_by_method(found, 'lr')}.",
            *settings(found),
        ]
    protocol = f"Evaluation: protocol {evaluation['protocol']} (version {evaluation['version']})"
    if evaluation["protocol"] != "likelihood" or any(TASKS[t].generated for t in evaluation["tasks"] if t in TASKS):
        protocol += f", generated answers with {evaluation['beams']} beam{'s' if evaluation['beams'] > 1 else ''}"
        if (penalty := evaluation.get("repetition_penalty", 1)) != 1:
            protocol += f" and a repetition penalty of {penalty:g}"
    lines.append(protocol + ".")
    lines += [f"{name}: {said}." for name, said in evaluation["tasks"].items() if name.startswith(HARNESS)]
    best = train.get("select", "last") == "best"
    if data["template"] == SMT_CODE:
        lines.append(f"Unlike SMT's released scripts: {'' if best else LAST_WEIGHTS}{UNLIKE_CODE}")
    return [*unusual, *map(Made, lines)]


def own_recipe(found: Sequence[Group]) -> list[str]:
    """A preset, and what was asked for in place of a recipe's choices; nothing where nothing was."""
    origins: dict[tuple[str, str, str], dict[str, None]] = {}
    said: dict[str, dict[str, dict[tuple[str, str], list[str]]]] = {}
    for group in found:
        for record in (*group.done, *group.lost):
            if own := record.get("recipe"):
                if "preset" in own:
                    origin = (own["preset"], own["name"], own["tuning"])
                    origins.setdefault(origin, {})[title(group.method)] = None
                for what, (was, now) in own["changed"].items():
                    values = said.setdefault(own["name"], {}).setdefault(what, {})
                    names = values.setdefault((_plain(was), _plain(now)), [])
                    if group.method not in names:
                        names.append(group.method)
    lines = []
    for (preset, name, tuning), trained in origins.items():
        by = f"found by tuning {tuning}" if tuning else "the recipe's, not searched on these data"
        lines.append(f"Preset {preset} of recipe {name}: rates and settings of {listed(list(trained))} {by}.")
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


def settings(found: Sequence[Group]) -> list[str]:
    """What each method trains and how, all of its configuration: layers, units, warm-up; a sentence.

    Where many methods are compared it says where that stands.
    """
    values: dict[str, dict[str, list[str]]] = {}
    for g in (g for g in found if g.trains):
        own = values.setdefault(g.method, {})
        for name, value in g.run["method"]["config"].items():
            shown = own.setdefault(name, [])
            if (text := _setting(value)) not in shown:
                shown.append(text)
    values = {method: own for method, own in values.items() if own}
    if len(values) > MANY_METHODS:
        return ["Settings: in each record (`python -m smt_bench show KEY`)."]
    parts = [
        f"{title(method)} " + ", ".join(f"{name} {' or '.join(texts)}" for name, texts in own.items())
        for method, own in values.items()
    ]
    return [f"Settings: {'; '.join(parts)}."] if parts else []


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return markdown(" ".join(map(str, value))) or "none"
    return markdown(value) if isinstance(value, str) else _plain(value)


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
