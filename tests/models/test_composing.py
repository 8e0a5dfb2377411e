"""Adapters added up and compared, against dense sums in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import Cli
from safetensors.torch import load_file
from test_adapters import trained
from transformers import AutoModelForCausalLM

from smt_bench.models import composing
from smt_bench.models.locate import locate


def test_lora_and_spiel_add_up_whatever_they_are_kept_as(cli: Cli, tmp_path: Path) -> None:
    records, base = trained(cli, tmp_path, "llama", "spiel,lora"), str(tmp_path / "bases" / "llama")
    kept = {name: tmp_path / "results" / "adapters" / r["key"] for name, r in records.items()}
    assert records["lora"]["adapter"]["format"] == "peft" and records["spiel"]["adapter"]["format"] == "difference"
    for name, record in records.items():
        assert cli("export", record["key"], str(tmp_path / name), "--model", base).returncode == 0
    assert cli("add", str(tmp_path / "sum"), *map(str, kept.values()), "--model", base).returncode == 0
    start, lora, spiel, summed = (
        load_file(folder / "model.safetensors")
        for folder in (Path(base), tmp_path / "lora", tmp_path / "spiel", tmp_path / "sum")
    )
    moved = 0
    for name, before in start.items():
        wanted = lora[name].double() + spiel[name].double() - before.double()
        assert torch.allclose(summed[name].double(), wanted, rtol=0, atol=1e-7)
        moved += int(((lora[name] != before) & (spiel[name] != before)).sum())
    found = composing.compared(locate(base), kept["spiel"], kept["lora"])
    a, b = ([(t[n].double() - start[n].double()).flatten() for n in start] for t in (spiel, lora))
    one, other = torch.cat(a), torch.cat(b)
    assert found["numbers"] == [int((one != 0).sum()), int((other != 0).sum())] and found["shared"] == moved > 0
    assert found["cosine"] == pytest.approx(float(torch.cosine_similarity(one, other, dim=0)), rel=1e-9)
    assert found["opposed"] == int((one * other < 0).sum())
    chance = sum(float((x != 0).sum() * (y != 0).sum()) / x.numel() for x, y in zip(a, b))
    assert found["by_chance"] == pytest.approx(chance)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "sum") is not None
