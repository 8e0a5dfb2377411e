"""What SMT's text says of its experiments against what its released scripts do.

The scripts: github.com/HectorHHZ/Sparse_Matrix_Tuning, folder deepspeed, as a public copy of the repository holds them
(`fine_tune.py` at 70bdefa, `helper.py` and `deepspeed_helpers.py` at 5a7d436, `smt.py` and `smt_helper.py` at 4588a0f,
`run_commonsense_parallel.py` at f800854, README at 1cae96a). "As reported in LoRA and DoRA": DoRA's scripts for LLaMA-7B and
LLM-Adapters' `finetune.py` and `commonsense_evaluate.py`. The scripts may have changed since the paper's experiments; what they
said then cannot be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from smt_bench.audit.finding import AGREES, Finding
from smt_bench.audit.printed import Tables
from smt_bench.audit.statements.kinds import Statement

CHECK = "released code"
D = Decimal
Value = Decimal | str


@dataclass(frozen=True)
class Released(Statement):
    """A choice as the text has it, and as the scripts make it.

    Attributes:
        text: of the paper, or of what it refers to.
        code: of the scripts.
        so: what follows from a difference, where that is not plain.
    """

    text: Value
    code: Value
    so: str = ""

    def check(self, tables: Tables) -> Finding:
        """Agrees where both are the same."""
        verdict = AGREES if self.text == self.code else "contradicts the text" + (f": {self.so}" if self.so else "")
        return Finding(CHECK, self.where, f'"{self.says}"', self.about, self.text, self.code, verdict)


_LIKE_DORA = ("SMT section 4.1", "all the hyper-parameters [...] are identical to what was reported in LoRA and DoRA")
_SETTINGS = ("SMT table 2", "under the same settings")
_ALL_RATES = 'the comment "all results are obtained under ft_learning_rate = smt_lr = 9.65e-6"'

CODE: tuple[Statement, ...] = (
    Released(*_LIKE_DORA, f"learning rate, LLaMA-7B; {_ALL_RATES}", D("0.0002"), D("0.00000965")),
    Released("SMT section 4.3", "only fine-tune the learning rate", f"rate on math; {_ALL_RATES}", "tuned", "9.65e-6",
             "one rate for all results is none tuned for math"),
    Released("SMT released code", "9.65e-6", "its comment and default against its README's command", D("0.00000965"),
             D("0.000009865"), "two rates in one release"),
    Released(*_LIKE_DORA, "Adam's betas", "0.9, 0.999", "0.9, 0.95"),
    Released("SMT appendix B.2", "under identical hyper-parameter settings",
             "betas after gradient and after activation selection", "0.9, 0.95", "0.95, 0.999",
             "table 8 compares two optimizers"),
    Released(*_LIKE_DORA, "examples per step", D(16), D(64), "16 on each of 4 GPUs"),
    Released(*_LIKE_DORA, "tokens per example", D(256), D(2048)),
    Released(*_LIKE_DORA, "loss on", "prompt and response", "response"),
    Released(*_LIKE_DORA, "validation examples, commonsense", D(120), D(34084),
             "20 % of 170,420 are not trained on, the best weights on them are kept"),
    Released(*_LIKE_DORA, "learning-rate schedule", "one, up for 100 steps",
             "two, the second at its full rate from its first step"),
    Released(*_LIKE_DORA, "prompt", "LLM-Adapters', indented",
             "its own: no indents, a record's input in place of its instruction"),
    Released(*_LIKE_DORA, "weight decay", D(0), D(0)),
    Released("SMT section 4", "fine-tuned for 3 epochs", "epochs", D(3), D(3)),
    Released("SMT section 4", "dtype bf16", "data type", "bf16", "bf16"),
    Released("SMT section 4", "blocks of size l = 256", "side of a block", D(256), D(256)),
    Released("SMT section 3", "SMT updates the model during the warm-up phase", "what trains before selection", "all parameters",
             "all parameters"),
    Released("SMT section 3", "we average the absolute values within the sub-matrices", "score of a block of attention",
             "abs().mean()", "mean().abs()"),
    Released(*_SETTINGS, "beams", D(4), D(4)),
    Released(*_SETTINGS, "repetition penalty", D("1.0"), D("1.1")),
    Released(*_SETTINGS, "new tokens per answer", D(32), D(256)),
    Released("SMT table 7", "sub-matrices evaluation metrics",
             "selections behind the four rows: --calculate_strategy never reaches attention",
             D(4), D(1), "as released all four rows are one selection"),
    Released("SMT appendix B.2", "weight channels associated with larger activation magnitudes",
             "what activation selection trains", "columns of W, by their inputs", "rows of W, with the gradients of columns",
             "table 8's 53.2 % is no evidence about activation selection"),
    Released("SMT appendix B.2", "L_2 norm of the activations", "score of a channel", "L2 norm", "mean absolute value"),
    Released("SMT table 5", "Math10K", "scripts that train or judge on math", "those of table 5", "none",
             "commonsense answers are read only"),
)  # fmt: skip
