"""`audit paper`: all checks over all printed tables, as findings, a page to read and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from smt_bench.audit.checks import granularity, marks, noise, parameters, repeats
from smt_bench.audit.checks.averages import row_averages, speedups
from smt_bench.audit.checks.rivals import RIVALS
from smt_bench.audit.finding import Finding
from smt_bench.audit.page import Page
from smt_bench.audit.printed import Tables
from smt_bench.audit.statements import spiel
from smt_bench.audit.statements.code import CODE
from smt_bench.audit.statements.smt import SMT
from smt_bench.models import build, registry
from smt_bench.report.table import Table

D = Decimal
# Footnote 6 of SMT's section 3, and section 5.2 with figure 5.
EXAMPLE_TRAINABLE, EXAMPLE_TOTAL = 33_685_504, 6_738_411_520
SHARE_IN_V, SHARE_TRAINED = D("95.17"), D("0.86")
# Appendix I: the matrix of its profile, how much of it was selected, and the block sides compared.
PROFILED, SHARE_OF_V, SIDES = "model.layers.0.self_attn.v_proj.weight", D("2.1"), (256, 128, 64)
# SpIEL's appendix D: ranks searched, and the shares printed for them. LLaMA 2 has LLaMA's architecture.
RANKS = (8, 16, 32, 64)
SPIEL_SHARES = {
    "llama-7b": (D("0.30"), D("0.59"), D("1.2"), D("2.3")),
    "llama-13b": (D("0.24"), D("0.48"), D("0.95"), D("1.9")),
}
RULES = (
    "A printed number stands for all numbers that round to it. It agrees if some unrounded numbers behind the printed ones "
    'could give it ("within rounding" where rounding the computed number itself does not).',
    "Averages: mean of the row's printed scores. Same configuration: printed in several tables; one unrounded number "
    "must print as both. (SMT's table 2 says that its baselines are quoted, table 3 that they were run again.)",
    "Noise: for blocks of 256 x 256 the sum of absolute values is 2^16 times their mean, so that both metrics choose the same "
    "blocks; their two results (table 7) are one configuration run twice, as far as the text tells, and their difference "
    "is a lower bound on the run-to-run noise of an average. It was measured on LLaMA-7B, commonsense, 0.84 %; differences "
    "elsewhere that exceed it cannot be told from noise by the printed numbers.",
    "Granularity: an accuracy on n questions is a multiple of 100/n, rounded or cut. A mean over several runs would not be; "
    "neither paper says that an accuracy is one.",
    "Constant answer: what the most frequent gold answer of the test set (BoolQ: true, 62.17 %) or, where that file was not at "
    "hand, an equal share per option gives.",
    "Trainable share: rank x (inputs + outputs) per matrix, DoRA plus its magnitudes, over the parameters of the base model "
    "or, as peft prints it, of the base model with adapters. Table 3 heads its columns with one share for all methods.",
    "Statements: a few words of the text, its section, and what the printed numbers give. Where a statement can be read in "
    "several ways, each reading is a line.",
    "Released code: under printed what the text says, or the scripts of DoRA and LLM-Adapters to which it refers; under computed "
    "what SMT's released scripts do (github.com/HectorHHZ/Sparse_Matrix_Tuning, folder deepspeed). What they did for the paper "
    "cannot be told.",
    "Searched grid: whether a value at the end of the searched grid is optimal cannot be told.",
)


def findings(printed: Tables) -> list[Finding]:
    """All findings, check by check, in the order of the tables.

    Args:
        printed: `tables.load()`.
    """
    shapes = {e.name: build.shapes(e.name) for e in registry.REGISTRY.values() if e.published}
    found: list[Finding] = []
    for name, rows in printed.items():
        found += row_averages(name, rows) + repeats.identical_rows(name, rows)
        found += granularity.shares(name, rows) + granularity.constant_answers(name, rows)
    for configuration in repeats.CONFIGURATIONS:
        found += repeats.same_configuration(printed, configuration)
    found += spiel.repeated_base(spiel.T1, printed[spiel.T1])
    by_task, plateau, math, speed = (
        f"smt_table{t}" for t in ("2_commonsense", "3_plateau", "5_math10k", "1_speed")
    )  # fmt: skip
    found += speedups(speed, printed[speed])
    found += marks.best_marks(plateau, printed[plateau])
    found += marks.best_rows(by_task, printed[by_task], plateau, printed[plateau])
    found += noise.equal_rankings(noise.METRICS, printed[noise.METRICS])
    found.append(noise.rank_conflict((1, 1, 1), (2, 0, 0)))
    least = noise.bound(printed[noise.METRICS])
    if least is not None:
        found += noise.within_noise(printed, RIVALS, least)
    for name in (speed, by_task, plateau, math):
        found += parameters.adapter_sizes(name, printed[name], shapes)
        found += parameters.block_sizes(name, printed[name], shapes)
    found += parameters.one_request(by_task, printed[by_task], shapes)
    v_proj = shapes["llama-7b"][PROFILED]
    found += [parameters.blocks_of_matrix(SHARE_OF_V, (v_proj[0], v_proj[1]), side) for side in SIDES]
    total = parameters.parameter_count(EXAMPLE_TOTAL, shapes["llama-7b"], "llama-7b")
    found += [parameters.whole_blocks(EXAMPLE_TRAINABLE), total]
    assert isinstance(total.computed, Decimal)
    found.append(parameters.block_share(SHARE_IN_V, SHARE_TRAINED, int(total.computed)))
    found.append(parameters.largest_block(256, shapes))
    for model, shares in SPIEL_SHARES.items():
        found += parameters.spiel_ranks(RANKS, shares, model, shapes[model])
    memory = "smt_figure11_memory"
    found += parameters.tensor_memory(memory, printed[memory])
    found += [statement.check(printed) for statement in (*SMT, *CODE, *spiel.SPIEL)]
    found += _spiel(printed)
    return found


def _spiel(printed: Tables) -> list[Finding]:
    """The checks that are SpIEL's alone."""
    s = spiel
    main = printed[s.T1]
    ours, theirs = ("spiel-ag", "spiel-ma", "qspiel-ag", "qspiel-ma"), ("ia3", "lora", "full", "qlora")
    return [
        *(s.most_ahead(printed, names, ours, theirs) for names in ((s.T1,), (s.T2,), (s.T1, s.T2))),
        *(s.combinations_ahead(s.T1, main, D(5), how) for how in ("mean", "every")),
        *s.higher_margins(printed),
        *s.searched(s.T4, printed[s.T4]),
    ]


def summary(found: Sequence[Finding]) -> str:
    """How many of how many."""
    counts = Counter(f.holds for f in found)
    wrong = Counter(f.check for f in found if f.holds is False)
    named = ", ".join(f"{n} {check}" for check, n in wrong.most_common())
    return f"{counts[True]} of {len(found)} findings agree, {counts[None]} cannot be told, {counts[False]} do not ({named})."


def page(found: Sequence[Finding]) -> Page:
    """What does not agree first, then what cannot be told, then the rest, check by check; the rules below."""
    checks = list(dict.fromkeys(f.check for f in found))
    found = sorted(found, key=lambda f: checks.index(f.check))
    heads = {False: "What does not agree", None: "What cannot be told", True: "What agrees"}
    parts = [_table(heads[holds], [f for f in found if f.holds is holds]) for holds in heads]
    rules = "\n".join(["## Rules", "", *(f"- {rule}" for rule in RULES)])
    return ["# Audit of the printed numbers", summary(found), *parts, rules]


def _table(heading: str, found: Iterable[Finding]) -> Table:
    rows = [(f.check, f"{f.table}: {f.row}", f.column, _text(f.printed), _text(f.computed), f.verdict) for f in found]
    return Table(heading, ("check", "where", "column", "printed", "computed", "verdict"), rows)


def _text(value: Decimal | str | None) -> str | None:
    return f"{value:,f}" if isinstance(value, Decimal) else value
