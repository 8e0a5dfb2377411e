"""Statements of the SMT paper (ICLR 2025) about its own numbers, with their sections."""

from __future__ import annotations

from decimal import Decimal

from smt_bench.audit.finding import Interval
from smt_bench.audit.printed import COMMONSENSE, Cell, cell
from smt_bench.audit.statements.kinds import (
    Amounts,
    AtMost,
    Below,
    Difference,
    Equal,
    MeanDifference,
    Ratio,
    SameRow,
    Similar,
    Statement,
)
from smt_bench.audit.statements.orders import Ahead, AtLeast, Best, Rises, Unsurpassed

D = Decimal
_T1, _T2, _T3 = "smt_table1_speed", "smt_table2_commonsense", "smt_table3_plateau"
_T4, _T5, _T6, _T7 = (
    "smt_table4_mlp_vs_attention", "smt_table5_math10k", "smt_table6_qkv", "smt_table7_block_metric",
)  # fmt: skip
_T9, _T10, _T11 = "smt_table9_scope", "smt_table10_warmup_commonsense", "smt_table11_warmup_math10k"
_FRACTIONS = ("0.43", "0.84", "1.26", "2.5", "3.73", "4.91")
_MODELS = ("llama-7b", "llama-13b", "llama2-7b", "llama3-8b")


def _t2(model: str, method: str) -> Cell:
    return cell(_T2, model=model, method=method)


def _t3(model: str, method: str, pct: str) -> Cell:
    return cell(_T3, model=model, method=method, params_pct=pct)


def _parts(*values: str) -> Interval:
    """The sum of printed numbers."""
    whole = Interval.of(D(values[0]))
    for value in values[1:]:
        whole = whole + Interval.of(D(value))
    return whole


def _between(low: str, high: str) -> Interval:
    return Interval.of(D(low)) / Interval.of(D(high))


_OVER_DORA = {
    "llama-7b": ("3.0", "0.3"),
    "llama-13b": ("2.8", "0.9"),
    "llama2-7b": ("2.9", "1.3"),
    "llama3-8b": ("2", "1.6"),
}
_BEST_MARGINS = tuple((_t2(m, "smt(best)"), _t2(m, f"{b}(best)")) for m in _MODELS for b in ("lora", "dora", "spiel"))
_EQUAL_MARGINS = tuple((_t2(m, "smt"), _t2(m, f"{b}(best)")) for m in _MODELS for b in ("lora", "dora", "spiel"))
_MATH = tuple(cell(_T5, method=m) for m in ("lora(best)", "dora(best)"))
# The rest of the forward pass, without block gathering, from block size 256 (appendix I), in units of 1e-7 seconds.
_FORWARD, _GATHER = Interval.of(D("4.9e-05")), Interval.of(D("1.6e-06"))


def _gathering(seconds: str) -> Interval:
    """Share (%) of gathering in a forward pass whose rest is that of block size 256."""
    gather = Interval.of(D(seconds))
    middle = 100 * gather.middle / (_FORWARD.middle - _GATHER.middle + gather.middle)
    return Interval(middle, middle)


INTRODUCTION: tuple[Statement, ...] = (
    Amounts("SMT section 1", "at least 58 GB", "13.6 + 40 + 2 GB", D("58"), _parts("13.6", "40", "2")),
    Below(
        "SMT abstract and section 3", "by 67%", "what is left of 58 GB, said to be less than 20", D(20),
        Interval.exact(D("58") * (1 - D("0.67"))),
    ),
    AtLeast(
        "SMT section 1", "by 2+ points", "SMT(best) over every (best) baseline, tables 2 and 5", D("2"),
        (*_BEST_MARGINS, *((cell(_T5, method="smt(best)"), m) for m in _MATH)),
    ),
    AtLeast(
        "SMT section 1", "by 2+ points", "SMT at the baselines' budget over every (best) baseline, tables 2 and 5", D("2"),
        (*_EQUAL_MARGINS, *((cell(_T5, method="smt"), m) for m in _MATH)),
    ),
    Ahead(
        "SMT section 1", "better performance compared to LoRA and DoRA using same amount", "averages, tables 2 and 5",
        "better", tuple(
            (a, b) for a, b in (*_EQUAL_MARGINS, *((cell(_T5, method="smt"), m) for m in _MATH))
            if dict(b.where)["method"] != "spiel(best)"
        ),
    ),
    Below("SMT section 1", "less than 5% of trainable parameters", "largest share in tables 2 and 3", D(5),
          Interval.of(D("4.91"))),
    Below("SMT section 3", "fewer than 100 iterations", "warm-up on commonsense, section 4", D(100), Interval.exact(100)),
    Amounts("SMT section 3, footnote 6", "≈ 0.5%", "33685504 / 6738411520", D("0.5"),
            Interval.exact(D(100) * 33685504 / 6738411520)),
    # A linear layer's backward pass is two products of equal size, by weights and by inputs; the first remains, down to
    # the first layer (figure 4: every V has blocks).
    Amounts("SMT section 3", "reduces backward computation costs to z% (z=0.5)",
            "input gradients, which remain by the section's own note, % of the backward pass", D("0.5"), Interval.exact(50)),
    SameRow("SMT section 4", "25 warm-up iterations to all SMT experiments on Math10K", "table 5, SMT 0.86 %", D(25),
            cell(_T5, method="smt"), _T11, "warmup_iterations"),
)  # fmt: skip

RESULTS: tuple[Statement, ...] = (
    *(
        Difference("SMT section 4.1", f"accuracy of DoRA by {best}%", f"{m}, SMT(best) over DoRA(best)", D(best),
                   _t2(m, "smt(best)"), _t2(m, "dora(best)"))
        for m, (best, _) in _OVER_DORA.items()
    ),
    *(
        Difference("SMT section 4.1", f"surpasses DoRA by {equal}%", f"{m}, SMT over DoRA(best)", D(equal),
                   _t2(m, "smt"), _t2(m, "dora(best)"))
        for m, (_, equal) in _OVER_DORA.items()
    ),
    Difference("SMT section 4.1", "under their best performance trainable parameter number",
               "llama2-7b, SMT over DoRA, both at DoRA's best share, 0.43 %", D("1.3"),
               _t3("llama2-7b", "smt", "0.43"), _t3("llama2-7b", "dora", "0.43")),
    Ahead("SMT section 4.1", "consistently surpasses baseline methods", "averages, SMT over (best) baselines",
          "consistently", _EQUAL_MARGINS),
    Ahead("SMT section 4.1", "consistently surpasses baseline methods", "by task and model, SMT over DoRA(best)",
          "consistently", tuple((cell(_T2, task, model=m, method="smt"), cell(_T2, task, model=m, method="dora(best)"))
                                for m in _MODELS for task in COMMONSENSE)),
    Ahead("SMT section 4.1", "outstrip ChatGPT-3.5-turbo", "averages of SMT at the baselines' budget", "outstrip",
          tuple((_t2(m, "smt"), cell(_T2, method="chatgpt")) for m in _MODELS)),
    # Larger than the share of the rows that table 2 calls best.
    *(
        Unsurpassed("SMT section 4.1", "LoRA and DoRA will not achieve better performance with larger trainable parameters",
                    f"{m}, {method} above {best} %, its best in table 2", "not better", _t3(m, method, best),
                    tuple(_t3(m, method, pct) for pct in _FRACTIONS[_FRACTIONS.index(best) + 1:]))
        for m, method, best in (("llama-7b", "lora", "0.84"), ("llama-7b", "dora", "0.84"),
                                ("llama2-7b", "lora", "0.84"), ("llama2-7b", "dora", "0.43"))
    ),
    Similar("SMT section 4.1", "similar accuracy performance of full fine-tuning", "llama-7b, SMT 4.91 % and full",
            _t2("llama-7b", "smt(best)"), _t2("llama-7b", "full")),
    Similar("SMT section 4.1", "similar accuracy [...] while speedup 14.6x",
            "llama-7b, SMT 1.26 %, where 14.6x was measured (table 1), and full",
            _t3("llama-7b", "smt", "1.26"), _t2("llama-7b", "full")),
    # Forward, gradients of inputs and of weights are three products of equal size per layer; fine-tuning few weights
    # saves the third at most. Only full fine-tuning was offloaded (section 4.4).
    AtMost("SMT section 4.1", "speedup 14.6x", "what fewer products can give: 3 per layer against 2",
           D("14.6"), D("1.5"), "full fine-tuning was offloaded"),
    Amounts("SMT section 4.1", "save 99.5% of optimizer memory", "at 4.91 %, where accuracy is that of full", D("99.5"),
            Interval.exact(100) - Interval.of(D("4.91"))),
    *(
        Difference("SMT section 4.2", f"surpass DoRA by {points}%", f"{m} at 4.91 %", D(points),
                   _t3(m, "smt", "4.91"), _t3(m, "dora", "4.91"))
        for m, points in (("llama-7b", "3.8"), ("llama2-7b", "4.9"))
    ),
    *(
        Rises("SMT section 4.2", "continues improving", f"{m}, SMT by share", "rises",
              tuple(_t3(m, "smt", pct) for pct in _FRACTIONS))
        for m in ("llama-7b", "llama2-7b")
    ),
    Ahead("SMT section 4.2", "with some larger ranks, their performance slightly degrades",
          "best share over 4.91 %, three baselines, two models", "degrades", tuple(
              (_t3(m, b, top), _t3(m, b, "4.91"))
              for m, b, top in (("llama-7b", "lora", "1.26"), ("llama-7b", "spiel", "1.26"), ("llama-7b", "dora", "0.84"),
                                ("llama2-7b", "lora", "1.26"), ("llama2-7b", "spiel", "1.26"), ("llama2-7b", "dora", "0.43"))
          )),
    *(
        Difference("SMT section 4.3", f"by {points}%", f"{ours} over {theirs}, table 5", D(points),
                   cell(_T5, method=ours), cell(_T5, method=theirs))
        for ours, theirs, points in (("smt", "lora(best)", "1.3"), ("smt", "dora(best)", "1.1"),
                                     ("smt(best)", "lora(best)", "2.5"), ("smt(best)", "dora(best)", "2.3"))
    ),
    Ratio("SMT section 4.4", "1.5x faster", "SMT against SpIEL", D("1.5"),
          cell(_T1, "time_s", method="spiel"), cell(_T1, "time_s", method="smt")),
)  # fmt: skip

DISCUSSION: tuple[Statement, ...] = (
    Equal("SMT section 5.1", "fine-tune 0.86% of parameters", "table 4", D("0.86"),
          cell(_T4, "params_pct", attention_pct="0.84")),
    Equal("SMT section 5.1", "receive 0.43%", "table 4, second row", D("0.43"), cell(_T4, "mlp_pct", attention_pct="0.42")),
    Equal("SMT section 5.1", "0.62% of trainable parameters", "table 4, third row", D("0.62"),
          cell(_T4, "attention_pct", mlp_pct="0.21")),
    Equal("SMT section 5.1", "0.21% to MLPs", "table 4, third row", D("0.21"), cell(_T4, "mlp_pct", attention_pct="0.63")),
    Amounts("SMT section 5.1", "0.86%", "0.62 + 0.21, third row in the text", D("0.86"), _parts("0.62", "0.21")),
    Difference("SMT section 5.1", "by 2.0%", "attention over MLP, table 4", D("2.0"),
               cell(_T4, attention_pct="0.84"), cell(_T4, mlp_pct="0.84")),
    Rises("SMT section 5.1", "The more trainable parameters we allocate to attention", "averages, table 4", "the better",
          tuple(cell(_T4, attention_pct=pct) for pct in ("0", "0.42", "0.63", "0.84"))),
    # Table 6's caption and column say 0.84 %; the CSV has no column for it.
    Amounts("SMT section 5.2", "fine-tuned 0.86% of the parameters", "table 6, #Params%", D("0.86"), Interval.of(D("0.84"))),
    Difference("SMT section 5.2", "outperforms the K vectors by 4.6%", "V over K, printed averages", D("4.6"),
               cell(_T6, allocation="v"), cell(_T6, allocation="k")),
    Difference("SMT section 5.2", "the Q vectors by 3.2%", "V over Q, printed averages", D("3.2"),
               cell(_T6, allocation="v"), cell(_T6, allocation="q")),
    MeanDifference("SMT section 5.2", "the Q vectors by 3.2%", "V over Q, means of the rows", D("3.2"),
                   cell(_T6, allocation="v"), cell(_T6, allocation="q")),
)  # fmt: skip

APPENDIX: tuple[Statement, ...] = (
    Best("SMT table 7", "mean().abs() is the best strategy", "average", "mean_abs", _T7, "metric"),
    Best("SMT appendix B.1", "average absolute gradient value is the most effective",
         "abs().mean(), as section 3 and equation 8 have it", "abs_mean", _T7, "metric"),
    Ahead("SMT appendix B.3", "consistently outperforms", "global over per-layer and random, by task", "consistently",
          tuple((cell(_T9, task, scope="global"), cell(_T9, task, scope=other))
                for other in ("per_layer", "random") for task in COMMONSENSE)),
    Amounts("SMT appendix G.1", "only 838,861 values", "5 % of 4096 x 4096", D(838861), Interval.exact(D("838860.8"))),
    Amounts("SMT appendix G.1", "838,861 elements", "397 x 2113", D(838861), Interval.exact(397 * 2113)),
    Amounts("SMT appendix G.1", "1,677,722 indices", "2 x 838,861", D(1677722), Interval.exact(2 * 838861)),
    Amounts("SMT figure 11", "83.20M", "sum of the tensors, MiB", D("83.20"), _parts("64.00", "3.20", "12.80", "3.20")),
    Amounts("SMT appendix G.1", "5 times more memory", "16.0 / 3.2", D(5), _between("16.0", "3.2")),
    Best("SMT section 4 and appendix H", "100 warm-up iterations", "commonsense", "100", _T10, "warmup_iterations"),
    Best("SMT appendix H", "30 warm-up iterations leads to the best performance", "Math-10k", "30", _T11,
         "warmup_iterations"),
    Below("SMT appendix I", "less than 3%", "1.6e-06 / 4.9e-05 s, block 256 (%)", D(3), (_GATHER / _FORWARD).scaled(100)),
    Amounts("SMT appendix I", "10%", "block 128, the rest of the forward pass as at 256 (%)", D(10), _gathering("5.4e-06")),
    Amounts("SMT appendix I", "24%", "block 64, the rest of the forward pass as at 256 (%)", D(24), _gathering("1.5e-05")),
    Difference("SMT appendix I", "+0.5 point", "block 64 over 256, table 12", D("0.5"),
               cell("smt_table12_block_size", block_size="64"), cell("smt_table12_block_size", block_size="256")),
)  # fmt: skip

SMT = (*INTRODUCTION, *RESULTS, *DISCUSSION, *APPENDIX)
