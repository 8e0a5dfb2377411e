"""What follows from runs of 2, 3 and 4 layers is what the whole model shows, to the byte; else nothing is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import configuration

from smt_bench import methods
from smt_bench.measuring.live_tensors import MARK, History, replay
from smt_bench.models.repeats import equal_layers
from smt_bench.plan import shorter
from smt_bench.plan.dry import Workload, dry_run
from smt_bench.plan.shorter import Make, Unlike, counted, from_shorter, longer

LAYERS = 6
STEPS = 100
F32 = torch.float32


def folder(at: Path, name: str) -> str:
    """A model's configuration with six layers, of which the kinds take turns where it has kinds."""
    config = configuration(name, 64)
    text = config.get_text_config()
    text.num_hidden_layers = LAYERS
    for field, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == 2 and field.startswith(("layer", "mlp_layer")):
            setattr(text, field, value * (LAYERS // 2))
    config.save_pretrained(at)
    return str(at)


def maker(name: str, config: dict[str, Any] | None = None) -> Make:
    return lambda fraction: methods.build(name, config or {}, fraction, 0, STEPS)


@pytest.mark.parametrize(
    ("architecture", "method", "fraction", "how"),
    [
        ("llama", "full", None, {"checkpointing": True}),
        ("llama", "full", None, {"checkpointing": False, "optimizer_dtype": "bf16"}),
        ("llama", "full", None, {"checkpointing": False, "precision": "fp32", "gpu": False, "attention": "eager"}),
        ("llama", "lora", 0.05, {"checkpointing": True}),
        ("llama", "dora", 0.05, {"checkpointing": False}),
        ("llama", "base", None, {"checkpointing": False}),
        ("qwen3_moe", "full", None, {"checkpointing": True}),
        ("gpt2", "lora", 0.05, {"checkpointing": True}),
        ("phi", "peft:ia3", None, {"checkpointing": True}),
    ],
)
def test_it_is_what_the_whole_model_shows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    method: str,
    fraction: float | None,
    how: dict[str, Any],
) -> None:
    monkeypatch.setattr(shorter, "WORTH", LAYERS)
    work, make = Workload(folder(tmp_path, architecture), 2, 12, **how), maker(method)
    found = from_shorter(work, make, fraction)
    assert found is not None
    assert found.to_dict() == dry_run(work, make(fraction), {}, "").to_dict()  # in the same order, too


@pytest.mark.parametrize(
    ("architecture", "method", "config"),
    [
        ("gemma2", "lora", {}),  # windows in every other layer
        ("qwen3_next", "full", {}),  # two kinds of layers
        ("llama", "smt", {"block_size": 16, "warmup_steps": 2}),  # has a warm-up
        ("llama", "spiel", {}),  # its deltas are spread over all matrices
    ],
)  # fmt: skip
def test_it_says_nothing_where_layers_are_not_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, method: str, config: dict[str, Any]
) -> None:
    monkeypatch.setattr(shorter, "WORTH", LAYERS)
    work = Workload(folder(tmp_path, architecture), 2, 12)
    fraction = 0.0501 if methods.find(method).takes_fraction else None
    assert from_shorter(work, maker(method, config), fraction) is None


def test_layers_are_alike_but_for_their_number(tmp_path: Path) -> None:
    model = Workload(folder(tmp_path, "llama"), 2, 12).build()
    assert equal_layers(model) == LAYERS
    model.model.layers[3].self_attn.scaling = 0.5
    assert equal_layers(model) is None
    model.model.layers[3].self_attn.scaling = model.model.layers[2].self_attn.scaling
    model.config.layer_types = ["full_attention"] * (LAYERS - 1) + ["sliding_attention"]
    assert equal_layers(model) is None


def forward_and_back(layers: int, kept: int = 8, loss: int = 100) -> History:
    """Each layer has a temporary, keeps something, and frees it on the way back; the loss comes between."""
    there: History = [("temporaries", 50), ("saved_activations", kept), ("temporaries", -50)] * layers
    back: History = [("temporaries", 30), ("temporaries", -30), ("saved_activations", -kept)] * layers
    norms: History = [("gradients", 4 * layers), ("gradients", -4 * layers)]
    return [
        (MARK + "forward", 0),
        *there,
        ("temporaries", loss),
        ("temporaries", -loss),
        (MARK + "backward", 0),
        *back,
        *norms,
    ]


@pytest.mark.parametrize(("kept", "loss"), [(8, 100), (1, 1000), (60, 20)])
def test_a_peak_is_found_wherever_it_lies(kept: int, loss: int) -> None:
    three = [forward_and_back(n, kept, loss) for n in (2, 3, 4)]
    assert replay(longer(three, 36)) == replay(forward_and_back(40, kept, loss))


def test_histories_that_do_not_grow_by_layers_are_refused() -> None:
    a, b, c = (forward_and_back(n) for n in (2, 3, 4))
    with pytest.raises(Unlike):
        longer([a, b, forward_and_back(5)], 1)
    with pytest.raises(Unlike):
        longer([a, b, [("temporaries", 7), *c]], 1)
    with pytest.raises(Unlike):
        longer([[("temporaries", n * n), ("gradients", -1), *a] for n in (2, 3, 4)], 1)


def test_operations_grow_in_number_or_in_size() -> None:
    def of(n: int, twist: int = 0) -> Counter[tuple[bool, torch.dtype, int, int]]:
        return Counter({(False, F32, 10, 8): 3 * n + 1, (True, F32, 0, 16 * n + twist): 1, (False, F32, 0, 4): 2})

    assert list(counted([of(2), of(3), of(4)], 6).items()) == list(of(10).items())
    with pytest.raises(Unlike):
        counted([of(2), of(3), of(4, twist=1)], 6)
    with pytest.raises(Unlike):
        counted([of(2), of(3), of(4) + Counter({(False, F32, 10, 9): 1})], 6)
