"""The same numbers where they should differ, and different numbers where they should be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from smt_bench.audit.finding import AGREES, Finding, Interval, differs
from smt_bench.audit.printed import Row, Tables, find_row, label, number, tasks_of, title


def identical_rows(table: str, rows: Sequence[Row]) -> list[Finding]:
    """Rows for different models or methods with the same score in every task.

    Two runs that answer thousands of questions do not agree to the last digit in every task by chance.
    """
    scored = [(row, [row[task] for task in tasks_of(row)]) for row in rows if tasks_of(row)]
    alike = [(a, b, s) for (a, s), (b, t) in combinations(scored, 2) if s == t and all(s)]
    shown = [
        Finding(
            "identical rows",
            title(table),
            f"{label(a)} = {label(b)}",
            f"{len(s)} tasks",
            ", ".join(s),
            None,
            "identical",
        )
        for a, b, s in alike
    ]
    if scored and not shown:
        row = f"all {len(scored)} rows"
        shown = [Finding("identical rows", title(table), row, "tasks", "no two alike", None, AGREES)]
    return shown


@dataclass(frozen=True)
class Configuration:
    """One configuration that several tables print.

    Attributes:
        name: for people.
        places: (table, cells that name the row), the reference first.
    """

    name: str
    places: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def same_configuration(tables: Tables, configuration: Configuration) -> list[Finding]:
    """Every later place of a configuration against the first, in all result columns that both print.

    Numbers agree if one unrounded number could be printed as both: 78.66 and 78.7 do, 78.66 and 78.6 do not.
    """
    rows = [(name, find_row(tables.get(name, ()), where)) for name, where in configuration.places]
    present = [(name, row) for name, row in rows if row is not None]
    found = []
    for name, row in present[1:]:
        first, reference = present[0]
        columns = [c for c in (*tasks_of(row), "avg") if row.get(c) and reference.get(c)]
        for column in columns:
            printed, expected = number(row[column]), number(reference[column])
            assert printed is not None and expected is not None
            if not Interval.of(printed).meets(Interval.of(expected)):
                coarser = max(printed, expected, key=lambda n: n.as_tuple().exponent)
                verdict = differs(coarser, expected if coarser is printed else printed)
                verdict += f" from {title(first)}"
                found.append(
                    Finding("same configuration", title(name), configuration.name, column, printed, expected, verdict)
                )
        bad = sum(f.table == title(name) for f in found)
        if columns and not bad:
            what = f"{len(columns)} number{'s' if len(columns) > 1 else ''} as in {title(first)}"
            found.append(
                Finding("same configuration", title(name), configuration.name, ", ".join(columns), what, None, AGREES)
            )
    return found


def _row(table: str, **where: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return table, tuple(where.items())


def _plateau(model: str, method: str, best: str, printed: str, column: str) -> Configuration:
    """A row of table 2 and the cell of table 3 that stands for the same run."""
    return Configuration(
        f"{model} {best} {printed} %",
        (
            _row("smt_table2_commonsense", model=model, method=best, params_pct=printed),
            _row("smt_table3_plateau", model=model, method=method, params_pct=column),
        ),
    )


_SMT = (
    _row("smt_table2_commonsense", model="llama-7b", method="smt", params_pct="0.84"),
    _row("smt_table3_plateau", model="llama-7b", method="smt", params_pct="0.84"),
    _row("smt_table4_mlp_vs_attention", model="llama-7b", mlp_pct="0", attention_pct="0.84"),
    _row("smt_table6_qkv", allocation="qkv"),
    _row("smt_table7_block_metric", metric="mean_abs"),
    _row("smt_table8_gw_vs_aw", selection="gradient", params_pct="0.84"),
    _row("smt_table9_scope", scope="global"),
    _row("smt_table12_block_size", block_size="256"),
)
# Table 3's columns are nominal: 0.84 stands for the 0.83 of LoRA and SpIEL in table 2, and 0.43 for DoRA's 0.42.
CONFIGURATIONS = (
    Configuration("llama-7b SMT 0.84 %", _SMT),
    Configuration(
        "llama-7b SMT 4.91 %",
        (
            _row("smt_table2_commonsense", model="llama-7b", method="smt(best)", params_pct="4.91"),
            _row("smt_table3_plateau", model="llama-7b", method="smt", params_pct="4.91"),
            _row("smt_table8_gw_vs_aw", selection="gradient", params_pct="4.91"),
        ),
    ),
    _plateau("llama-7b", "lora", "lora(best)", "0.83", "0.84"),
    _plateau("llama-7b", "dora", "dora(best)", "0.84", "0.84"),
    _plateau("llama-7b", "spiel", "spiel(best)", "0.84", "0.84"),
    _plateau("llama2-7b", "lora", "lora(best)", "0.83", "0.84"),
    _plateau("llama2-7b", "dora", "dora(best)", "0.42", "0.43"),
    _plateau("llama2-7b", "spiel", "spiel(best)", "0.83", "0.84"),
    _plateau("llama2-7b", "smt", "smt", "0.84", "0.84"),
    _plateau("llama2-7b", "smt", "smt(best)", "4.91", "4.91"),
)
