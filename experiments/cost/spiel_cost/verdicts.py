"""What SpIEL's paper reads out of its table 3, judged by what was measured here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from smt_bench.evidence.decisions import OPEN
from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.verdicts import HOLDS, REFUTED, judge, tally

ROWS = ("LoRA", "SpIEL", "SpIEL-MA")
MATTERS = 1.0  # percent
Values = dict[tuple[str, bool], float]  # by row's title and checkpointing


def memory_verdicts(values: Values, unit: str | None) -> list[str]:
    """What the paper reads out of its memory columns. Bytes are counted, not sampled: one count decides.

    Args:
        values: bytes, or limits.
        unit: of limits, which are known to a unit; None: bytes.
    """

    def less(a: float | None, b: float | None) -> str:
        if a is None or b is None:
            return f"{OPEN} (not measured)"
        matters = 1.0 if unit else MATTERS / 100 * b
        return HOLDS if b - a >= matters else REFUTED

    def saved(row: str) -> float | None:
        without, within = values.get((row, False)), values.get((row, True))
        return None if without is None or within is None else within / without

    lora, ag, ma = ROWS
    told = {
        "SpIEL-AG needs less than LoRA without checkpointing (34 GB against 40)": less(
            values.get((ag, False)), values.get((lora, False))
        ),
        "so does SpIEL-MA (30 against 40)": less(values.get((ma, False)), values.get((lora, False))),
        "SpIEL-MA needs less than SpIEL-AG without checkpointing (30 against 34)": less(
            values.get((ma, False)), values.get((ag, False))
        ),
        "and with it (17 against 20)": less(values.get((ma, True)), values.get((ag, True))),
    }
    ratios = {row: saved(row) for row in ROWS}
    known = [r for r in ratios.values() if r is not None]
    if len(known) == len(ROWS):
        most = ratios[lora] == min(known) and sorted(known)[1] - min(known) >= MATTERS / 100
        told["checkpointing saves most with LoRA (to 45 %, against 59 and 57)"] = HOLDS if most else REFUTED
    else:
        told["checkpointing saves most with LoRA (to 45 %, against 59 and 57)"] = f"{OPEN} (not measured)"
    rule = f"less by {'1 GiB' if unit else f'{MATTERS:g} %'} or more"
    return [
        f"Verdict on the paper's memory claims (section 5.2): {tally(list(told.values()))}. Rule: {rule}; bytes are counted, so "
        "that one count decides.",
        *(f"Claim: {claim}: {verdict}." for claim, verdict in told.items()),
    ]


def time_verdicts(seeds: Sequence[Values]) -> list[str]:
    """What the paper reads out of its time columns, over seeds; one seed tells nothing."""
    lora, ag, ma = ROWS
    claims = [
        (f"{a} is faster than {b}, {'with' if kind else 'without'} checkpointing", a, b, kind)
        for a, b in ((ma, ag), (lora, ag), (lora, ma))
        for kind in (False, True)
    ]
    saved = [
        [100 * (1 - one[a, kind] / one[b, kind]) for one in seeds if (a, kind) in one and (b, kind) in one]
        for _, a, b, kind in claims
    ]
    told = judge([mean_of(values) if values else None for values in saved], MATTERS, "{:.1f} %".format)
    shown = [_shown(a, b, statistics.mean(values)) if values else "" for (_, a, b, _), values in zip(claims, saved)]
    return [
        f"Verdict on the paper's time claims (section 5.2): {tally(told)}. Rule: over seeds, differences within {MATTERS:g} % "
        "are none; corrected together (Holm).",
        *(f"Claim: {claim}: {difference}{verdict}." for (claim, *_), difference, verdict in zip(claims, shown, told)),
    ]


def _shown(a: str, b: str, saved: float) -> str:
    """In words, what one row takes beside another, of which it saves so many percent."""
    return f"{a} takes {abs(saved):.1f} % {'less' if saved > 0 else 'more'} than {b}, "
