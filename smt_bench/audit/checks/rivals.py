"""The differences between printed runs that the SMT paper reads as results; data for `noise.within_noise`."""

from __future__ import annotations

from smt_bench.audit.checks.noise import Rivals
from smt_bench.audit.printed import Cell, cell

_T2, _T3, _T5 = "smt_table2_commonsense", "smt_table3_plateau", "smt_table5_math10k"
_BASELINES = ("lora", "dora", "spiel")
_FRACTIONS = ("0.43", "0.84", "1.26", "2.5", "3.73", "4.91")


def _best(model: str) -> tuple[Cell, ...]:
    return tuple(cell(_T2, model=model, method=f"{name}(best)") for name in _BASELINES)


def _table2(model: str) -> list[Rivals]:
    here = model == "llama-7b"
    return [
        Rivals(f"{model}: SMT over the best baseline", cell(_T2, model=model, method="smt"), _best(model), here),
        Rivals(
            f"{model}: SMT(best) over the best baseline", cell(_T2, model=model, method="smt(best)"), _best(model), here
        ),
    ]


def _table3(model: str) -> list[Rivals]:
    def at(method: str, pct: str) -> Cell:
        return cell(_T3, model=model, method=method, params_pct=pct)

    return [
        Rivals(
            f"{model} {pct} %: SMT over the best baseline",
            at("smt", pct),
            tuple(at(name, pct) for name in _BASELINES),
            model == "llama-7b",
        )
        for pct in _FRACTIONS
    ]


def _pair(what: str, table: str, column: str, better: str, other: str, same_setting: bool = True) -> Rivals:
    return Rivals(what, cell(table, **{column: better}), (cell(table, **{column: other}),), same_setting)


RIVALS = (
    *(pair for model in ("llama-7b", "llama-13b", "llama2-7b", "llama3-8b") for pair in _table2(model)),
    *(pair for model in ("llama-7b", "llama2-7b") for pair in _table3(model)),
    _pair("attention 0.84 % over MLP 0.84 %", "smt_table4_mlp_vs_attention", "attention_pct", "0.84", "0"),
    _pair("attention 0.84 % over 0.63 %", "smt_table4_mlp_vs_attention", "attention_pct", "0.84", "0.63"),
    _pair("attention 0.63 % over 0.42 %", "smt_table4_mlp_vs_attention", "attention_pct", "0.63", "0.42"),
    _pair("attention 0.42 % over 0 %", "smt_table4_mlp_vs_attention", "attention_pct", "0.42", "0"),
    Rivals(
        "SMT over the best baseline",
        cell(_T5, method="smt"),
        (cell(_T5, method="lora(best)"), cell(_T5, method="dora(best)")),
        False,
    ),
    _pair("V over K", "smt_table6_qkv", "allocation", "v", "k"),
    _pair("V over Q", "smt_table6_qkv", "allocation", "v", "q"),
    _pair("QKV over V", "smt_table6_qkv", "allocation", "qkv", "v"),
    _pair("mean_abs over l2_norm", "smt_table7_block_metric", "metric", "mean_abs", "l2_norm"),
    _pair("l2_norm over abs_sum", "smt_table7_block_metric", "metric", "l2_norm", "abs_sum"),
    _pair("global over per_layer", "smt_table9_scope", "scope", "global", "per_layer"),
    _pair("100 over 30 warm-up steps", "smt_table10_warmup_commonsense", "warmup_iterations", "100", "30"),
    _pair("100 over 160 warm-up steps", "smt_table10_warmup_commonsense", "warmup_iterations", "100", "160"),
    _pair("30 over 70 warm-up steps", "smt_table11_warmup_math10k", "warmup_iterations", "30", "70", False),
    _pair("block 128 over 256", "smt_table12_block_size", "block_size", "128", "256"),
    _pair("block 64 over 256", "smt_table12_block_size", "block_size", "64", "256"),
)
