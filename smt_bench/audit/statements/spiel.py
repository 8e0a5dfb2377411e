"""Statements of the SpIEL paper (2024) about its own numbers, with their sections; and checks that only its tables need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from smt_bench.audit.finding import AGREES, UNKNOWN, Finding
from smt_bench.audit.printed import Cell, Row, Tables, cell, find_row, number, title
from smt_bench.audit.statements.kinds import Difference, Equal, Statement
from smt_bench.audit.statements.orders import Ahead

D = Decimal
T1, T2, T3, T4, T5 = (
    "spiel_table1_main", "spiel_table2_quantized", "spiel_table3_memory_time", "spiel_table4_hyperparameters",
    "spiel_table5_schedule",
)  # fmt: skip
DATA_SETS = {
    "Flan v2": ("flanv2_mmlu", "flanv2_tydiqa"),
    "GPT4-Alpaca": ("gpt4alpaca_humaneval",),
    "Tülu v2": ("tulu2_mmlu", "tulu2_gsm", "tulu2_bbh", "tulu2_tydiqa", "tulu2_humaneval"),
}
_MODELS = ("llama2-7b", "llama2-13b")
_SINGLE = tuple(column for columns in DATA_SETS.values() for column in columns)
_QUANTIZED = (*DATA_SETS["Flan v2"], *DATA_SETS["GPT4-Alpaca"])
_HUMANEVAL = ("gpt4alpaca_humaneval", "tulu2_humaneval")
_MEMORY, _TIME = ("memory_gb", "memory_gb_checkpointing"), ("step_time_s", "step_time_s_checkpointing")


def _t1(model: str, method: str, column: str) -> Cell:
    return cell(T1, column, model=model, method=method)


def _t3(model: str, method: str, column: str) -> Cell:
    return cell(T3, column, model=model, method=method)


def _t1_pairs(model: str, rivals: Iterable[str], columns: Iterable[str]) -> tuple[tuple[Cell, Cell], ...]:
    return tuple((_t1(model, "spiel-ag", c), _t1(model, r, c)) for r in rivals for c in columns)


SPIEL: tuple[Statement, ...] = (
    Ahead("SpIEL section 5.1", "outperforms LoRA and (IA)3 consistently", "llama2-7b, SpIEL-AG, all data sets",
          "consistently", _t1_pairs("llama2-7b", ("ia3", "lora"), _SINGLE)),
    Ahead("SpIEL section 5.1", "similarly outperforms all baselines", "llama2-13b, SpIEL-AG, Flan v2 and GPT4-Alpaca",
          "outperforms", _t1_pairs("llama2-13b", ("ia3", "lora"), _QUANTIZED)),
    Difference("SpIEL section 5.1", "+1.7", "SpIEL-AG 7B, composed over the better adapter", D("1.7"),
               _t1("llama2-7b", "spiel-ag", "composed_humaneval"), _t1("llama2-7b", "spiel-ag", "tulu2_humaneval")),
    Difference("SpIEL section 5.1", "+0.4", "LoRA 7B, composed over the better adapter", D("0.4"),
               _t1("llama2-7b", "lora", "composed_humaneval"), _t1("llama2-7b", "lora", "gpt4alpaca_humaneval")),
    Ahead("SpIEL section 5.1", "better performance on 13B", "composed, SpIEL-AG over LoRA", "better",
          ((_t1("llama2-13b", "spiel-ag", "composed_humaneval"), _t1("llama2-13b", "lora", "composed_humaneval")),)),
    Ahead("SpIEL section 5.1", "composing [...] increases the performance on HumanEval",
          "composed over both individual adapters, four methods, two models", "increases",
          tuple((_t1(m, method, "composed_humaneval"), _t1(m, method, single))
                for m in _MODELS for method in ("ia3", "lora", "spiel-ag", "spiel-ma") for single in _HUMANEVAL)),
    Ahead("SpIEL section 5.1", "superior again to [...] LoRA", "table 2, qSpIEL-AG over qLoRA", "superior",
          tuple((cell(T2, c, model=m, method="qspiel-ag"), cell(T2, c, model=m, method="qlora"))
                for m in _MODELS for c in _QUANTIZED)),
    Ahead("SpIEL section 5.2", "consistently somewhat faster and more memory efficient", "SpIEL-MA against SpIEL-AG",
          "consistently", tuple((_t3(m, f"{q}spiel-ma", c), _t3(m, f"{q}spiel-ag", c))
                                for m in _MODELS for q in ("", "q") for c in (*_MEMORY, *_TIME)), lower=True),
    Ahead("SpIEL section 5.2", "Without activation checkpointing, [...] more memory efficient", "SpIEL against LoRA",
          "more efficient", tuple((_t3(m, f"{q}{s}", "memory_gb"), _t3(m, f"{q}lora", "memory_gb"))
                                  for m in _MODELS for q in ("", "q") for s in ("spiel-ag", "spiel-ma")), lower=True),
    Ahead("SpIEL section 5.2", "LoRA is the most memory-efficient technique",
          "quantization and checkpointing, qLoRA against SpIEL", "most efficient",
          tuple((_t3(m, "qlora", "memory_gb_checkpointing"), _t3(m, s, "memory_gb_checkpointing"))
                for m in _MODELS for s in ("qspiel-ag", "qspiel-ma")), lower=True),
    Ahead("SpIEL section 5.2", "a larger memory saving is achieved", "checkpointing against quantization",
          "larger", tuple((_t3(m, s, "memory_gb_checkpointing"), _t3(m, f"q{s}", "memory_gb"))
                          for m in _MODELS for s in ("lora", "spiel-ag", "spiel-ma")), lower=True),
    *(
        Equal("SpIEL appendix D", "the 20 steps we used in our main experiments", f"table 5 linear 20 {c}, table 1 SpIEL-AG",
              printed, cell(T5, c, schedule="linear", steps="20"))
        for c, printed in (("mmlu", D("50.7")), ("tydiqa", D("56.2")))
    ),
)  # fmt: skip


def combinations_ahead(table: str, rows: Sequence[Row], printed: Decimal, how: str) -> Finding:
    """In how many combinations of model and data set SpIEL-AG beats LoRA and (IA)3.

    Args:
        table: the table.
        rows: its rows.
        printed: how many the text says.
        how: "mean" over the data set's benchmarks, or "every" benchmark.
    """
    ahead = 0
    for model in _MODELS:
        ours, *theirs = (find_row(rows, (("model", model), ("method", m))) for m in ("spiel-ag", "ia3", "lora"))
        for columns in DATA_SETS.values():
            mine, *others = (_known(row, columns) for row in (ours, *theirs))
            if how == "mean":
                ahead += all(sum(mine) > sum(other) for other in others)
            else:
                ahead += all(a > b for other in others for a, b in zip(mine, other))
    about = "mean of the benchmarks" if how == "mean" else "in every benchmark"
    verdict = AGREES if ahead == printed else f"differs by {abs(ahead - printed)}"
    column = f"{title(table)}: SpIEL-AG over LoRA and (IA)3, {about}"
    says = '"5 out of the 6 combinations"'
    return Finding("statement", "SpIEL section 5.1", says, column, printed, Decimal(ahead), verdict)


def _known(row: Row | None, columns: Sequence[str]) -> list[Decimal]:
    """The scores of a row that every data set of table 1 has."""
    assert row is not None, "table 1 lacks a method"
    scores = [number(row[c]) for c in columns]
    assert None not in scores, f"{title(T1)}: a blank among {columns}"
    return [s for s in scores if s is not None]


def most_ahead(printed: Tables, names: Sequence[str], ours: Sequence[str], theirs: Sequence[str]) -> Finding:
    """Whether the better SpIEL variant beats every baseline that is printed in more than half of the columns.

    Args:
        printed: the tables.
        names: those that count.
        ours: SpIEL's variants.
        theirs: the baselines.
    """
    good = total = 0
    for name in names:
        rows = printed[name]
        for model in dict.fromkeys(row["model"] for row in rows):
            for column in rows[0].keys() - {"model", "method"}:
                here = [r for r in rows if r["model"] == model and r[column]]
                mine = [Decimal(r[column]) for r in here if r["method"] in ours]
                rivals = [Decimal(r[column]) for r in here if r["method"] in theirs]
                if mine and rivals:
                    total += 1
                    good += max(mine) > max(rivals)
    verdict = AGREES if good > total / 2 else "not most"
    says = '"outperforms the PEFT and full fine-tuning baselines on most"'
    where = " and ".join(title(name) for name in names)
    about = f"{where}: better SpIEL variant over every printed baseline"
    return Finding("statement", "SpIEL section 1", says, about, "most", f"{good} of {total}", verdict)


def higher_margins(tables: Tables) -> list[Finding]:
    """Whether SpIEL-AG's lead on LoRA is higher with quantization (table 2) than without (table 1)."""
    good, total, sums = 0, 0, [D(0), D(0)]
    for model in _MODELS:
        for column in _QUANTIZED:
            cells = (
                cell(T2, column, model=model, method="qspiel-ag"), cell(T2, column, model=model, method="qlora"),
                cell(T1, column, model=model, method="spiel-ag"), cell(T1, column, model=model, method="lora"),
            )  # fmt: skip
            values = [v for c in cells if (v := c.find(tables)) is not None]
            if len(values) == 4:
                quantized, plain = values[0] - values[1], values[2] - values[3]
                total, good = total + 1, good + (quantized > plain)
                sums = [sums[0] + quantized, sums[1] + plain]
    if not total:
        return []
    where, says = "SpIEL section 5.1", '"by an even higher margin compared to Table 1"'
    means = f"{sums[0] / total:.2f} against {sums[1] / total:.2f}"
    by_mean = AGREES if sums[0] > sums[1] else f"differs: {means}"
    by_cell = AGREES if good == total else f"not in {total - good} of {total}"
    absent = AGREES if any(row["method"] == "qia3" for row in tables[T2]) else f"{UNKNOWN}: not in table 2"
    return [
        Finding("statement", where, says, "over LoRA, mean over models and benchmarks", "higher", means, by_mean),
        Finding(
            "statement", where, says, "over LoRA, each model and benchmark", "higher", f"{good} of {total}", by_cell
        ),
        Finding("statement", where, says, "over (IA)3", "higher", None, absent),
    ]


GRIDS: dict[str, dict[str, tuple[str, ...]]] = {
    "learning_rate": {
        "lora": ("3e-6", "1e-5", "3e-5", "1e-4"),
        "spiel-ag": ("3e-6", "1e-5", "3e-5", "1e-4"),
        "spiel-ma": ("4e-4", "7e-4", "1e-3", "2e-3"),
        "ia3": ("1e-5", "3e-5", "1e-4", "3e-4"),
    },
    "rank": dict.fromkeys(("lora", "spiel-ag", "spiel-ma"), ("8", "16", "32", "64")),
    "weight_decay": {"spiel-ag": ("0", "1", "3", "10", "30"), "spiel-ma": ("0", "0.1", "0.3", "1", "3")},
}


def searched(table: str, rows: Sequence[Row]) -> list[Finding]:
    """Chosen hyper-parameters against the searched grids (appendix D): inside, at an end, or not searched at all.

    At an end of the grid the best value may lie outside, so that "optimal" cannot be told; 0 is no end.
    """
    found = []
    for row in rows:
        for column, grids in GRIDS.items():
            value, grid = number(row[column]), [Decimal(v) for v in grids.get(row["method"], ())]
            if value is None or not grid:
                continue
            ends = {max(grid), *([] if min(grid) == 0 else [min(grid)])}
            verdict = (
                f"{UNKNOWN}: at the end of the grid"
                if value in ends
                else AGREES
                if value in grid
                else "not in the grid"
            )
            shown = f"{grids[row['method']][0]} to {grids[row['method']][-1]}"
            name = f"{row['model']} {row['method']}"
            found.append(Finding("searched grid", title(table), name, column, row[column], shown, verdict))
    return found


def repeated_base(table: str, rows: Sequence[Row]) -> list[Finding]:
    """The untouched model's score in the columns of two data sets: the same model, so the same number."""
    same = (("flanv2_mmlu", "tulu2_mmlu"), ("flanv2_tydiqa", "tulu2_tydiqa"), _HUMANEVAL)
    found = []
    for row in rows:
        if row["method"] == "original":
            for a, b in same:
                x, y = number(row[a]), number(row[b])
                verdict = AGREES if x == y else "differs from the other column"
                name = f"{row['model']} original"
                found.append(Finding("same configuration", title(table), name, f"{a}, {b}", x, y, verdict))
    return found
