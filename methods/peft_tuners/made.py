"""The classes of the tuners by the names of peft, e.g. `made.vera`, made when they are asked for."""

from __future__ import annotations

from functools import cache
from typing import Any

from smt_bench.methods.peft_tuners.adalora import AdaLora
from smt_bench.methods.peft_tuners.adaption import AdaptionPrompt
from smt_bench.methods.peft_tuners.knobs import KNOBS
from smt_bench.methods.peft_tuners.known import PREFIX, working
from smt_bench.methods.peft_tuners.lora_plus import LoraPlus
from smt_bench.methods.peft_tuners.method import PeftTuner
from smt_bench.methods.peft_tuners.settings import config_of
from smt_bench.methods.peft_tuners.virtual import VirtualTokens

_OWN: dict[str, type[PeftTuner]] = {  # those that need more than their table
    "adalora": AdaLora, "adaption_prompt": AdaptionPrompt, "lora": LoraPlus,
    "p_tuning": VirtualTokens, "prefix_tuning": VirtualTokens, "prompt_tuning": VirtualTokens,
}  # fmt: skip


@cache
def _made(tuner: str) -> type[PeftTuner]:
    title, summary = working()[tuner]
    knob = KNOBS[tuner]
    base = _OWN.get(tuner, PeftTuner)
    about: dict[str, Any] = {
        "__doc__": f"{title}: {summary}.",
        "__module__": __name__,
        "name": PREFIX + tuner,
        "version": 1,
        "summary": summary,
        "title": title,
        "tuner": tuner,
        "takes_fraction": knob.field is not None,
        "Config": config_of(tuner, base.Config),
    }
    return type(title, (base,), about)


def __getattr__(name: str) -> type[PeftTuner]:
    if name not in working():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _made(name)
