"""The papers' numbers: CSV files in `results/paper`, which the wheel carries as `smt_bench/evidence/printed`.

They are the tables that were handed out with the task, with one row more: table 12's block side 64, the last line of the paper.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

MODEL = "llama-7b"  # of the ablations
PLATEAU = {"commonsense": "smt_table3_plateau"}  # by data family, as below
BY_TASK = {"commonsense": "smt_table2_commonsense", "math": "smt_table5_math10k"}
PAPER_PCT = 0.84  # the budget of the ablations
NEAR = 0.05  # relative: the papers print 0.83, 0.84 and 0.86 % for the same request
_SAME = 0.005  # percentages printed with two decimals


def folder() -> Path:
    """Where the published tables are: the checkout's, else those installed with the package.

    Raises:
        ValueError: neither is there.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here.parents[1] / "results" / "paper", here / "printed"):
        if candidate.is_dir():
            return candidate
    raise ValueError(f"the papers' numbers are not beside {here}: reinstall smt-bench")


def published(table: str) -> pd.DataFrame:
    """One published table as printed; missing numbers are NaN.

    Args:
        table: file name without ".csv", e.g. "smt_table3_plateau".

    Raises:
        ValueError: no such table.
    """
    return _read(table).copy()


@cache
def _read(table: str) -> pd.DataFrame:
    files = {path.stem: path for path in sorted(folder().glob("*.csv"))}
    if table not in files:
        raise ValueError(f"no published table {table!r}: choose from {', '.join(files)}")
    return pd.read_csv(files[table])


def as_printed(table: str) -> list[dict[str, str]]:
    """One published table, row by row, every cell as the text that is printed ("80.60"); "" where there is none.

    Raises:
        ValueError: no such table.
    """
    _read(table)  # names the tables there are
    rows = pd.read_csv(folder() / f"{table}.csv", dtype=str, keep_default_na=False)
    return [{str(column): str(cell) for column, cell in row.items()} for row in rows.to_dict("records")]


def names() -> list[str]:
    """The names of all published tables."""
    return sorted(path.stem for path in folder().glob("*.csv"))


def plateau(model: str, family: str = "commonsense") -> pd.DataFrame:
    """Published averages over a family's tasks, by fraction.

    Methods with a fraction come from SMT's table 3; full fine-tuning, which that table leaves out, from table 2.

    Returns:
        Columns `method`, `fraction_pct` (100 for full fine-tuning) and `accuracy` (%); no rows for models and families without.
    """
    if family not in PLATEAU:
        return pd.DataFrame({"method": [], "fraction_pct": [], "accuracy": []})
    by_fraction, by_task = published(PLATEAU[family]), published(BY_TASK[family])
    rows = by_fraction[by_fraction["model"] == model]
    if not rows.empty:
        rows = pd.concat([rows, by_task[(by_task["model"] == model) & (by_task["params_pct"] == 100)]])
    named = rows.rename(columns={"params_pct": "fraction_pct", "avg": "accuracy"})
    return named[["method", "fraction_pct", "accuracy"]].reset_index(drop=True)


def plateau_average(model: str, method: str, fraction_pct: float | None) -> float | None:
    """Published average accuracy (%) of one cell; None where the paper has none.

    Args:
        model: registry name.
        method: method name.
        fraction_pct: trainable parameters in %; None or 100 for full fine-tuning.
    """
    rows = plateau(model)
    wanted = 100.0 if fraction_pct is None else fraction_pct
    found = rows[(rows["method"] == method) & ((rows["fraction_pct"] - wanted).abs() < _SAME)]
    return None if found.empty else float(found["accuracy"].iloc[0])


def average(table: str, **where: str | float) -> float | None:
    """The printed average (%) of one row of an ablation table, all of which are about LLaMA-7B; None where there is none.

    Args:
        table: file name without ".csv".
        **where: what the row has in these columns; percentages as printed, with two decimals.
    """
    rows = published(table)
    for column, value in where.items():
        near = (rows[column] - value).abs() < _SAME if isinstance(value, (int, float)) else rows[column] == value
        rows = rows[near]
    return None if rows.empty else float(rows["avg"].iloc[0])


def by_task(model: str, family: str) -> pd.DataFrame:
    """Published accuracy per task (%), one row per method and fraction; no rows for models without.

    The papers' "lora(best)" is "lora" here; the fractions are as printed (0.83 where table 3 says 0.84).
    """
    if family not in BY_TASK:
        return pd.DataFrame(columns=["method", "params_pct", "avg"])
    rows = published(BY_TASK[family])
    rows = rows[rows["model"] == model].drop(columns="model")
    return rows.assign(method=rows["method"].str.removesuffix("(best)")).reset_index(drop=True)
