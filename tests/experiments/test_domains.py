"""Experiment `domains`: gradients are those of a naive loop, blocks are counted right, texts are the user's or the machine's."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from helpers import Cli

from smt_bench.data import domains
from smt_bench.data.general import pieces
from smt_bench.data.prompts import token_ids
from smt_bench.models import build, locate

pytestmark = pytest.mark.usefixtures("own_data")
LINES = [
    "The colour of the river is green.",
    "def f(x): return x + 1",
    "Who shall pay, and when?",
    "Count the legs of zalmo.",
]


def read(name: str) -> list[dict[str, str]]:
    with Path(f"results/domains/tiny/texts/{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_gradients_and_blocks_of_two_texts(cli: Cli, tmp_path: Path) -> None:
    data = tmp_path / "texts"
    data.mkdir()
    for name, lines in (("one", LINES), ("two", LINES), ("three", LINES[:2])):
        (data / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    tests = "".join(f'[tests.{name}]\nfile = "{name}.jsonl"\nkind = "text"\n' for name in ("one", "two", "three"))
    (data / "tasks.toml").write_text(f'name = "texts"\n{tests}')
    done = cli("run", "domains", "--data", str(data))
    assert done.returncode == 0, done.stderr
    result = json.loads(next(Path("results/runs").glob("*.json")).read_bytes())["result"]
    found = result["domains"]
    assert found["one"] == found["two"] != found["three"]
    assert sum(map(len, found["one"]["blocks"][0].values())) == result["count"]

    model, tokenizer = build.load(locate.locate("tiny"), "fp32")
    model.double()
    tokens, total = 0, 0.0
    for piece in pieces("one.jsonl", data):
        ids = torch.tensor([token_ids(tokenizer, piece.output)])
        logps = model(ids).logits[0, :-1].log_softmax(-1)
        loss = -logps.gather(1, ids[0, 1:, None]).sum()
        loss.backward()
        tokens, total = tokens + ids.shape[1] - 1, total + loss.item()
    assert found["one"]["tokens"] == tokens and math.isclose(found["one"]["nll"], total / tokens, rel_tol=1e-4)
    for layer, rms in found["one"]["rms"].items():
        grad = model.get_submodule(layer).weight.grad / tokens
        assert math.isclose(rms, grad.square().mean().sqrt().item(), rel_tol=1e-3), layer

    for row in read("domains"):
        for start in ("share_", "of_all_"):
            assert math.isclose(sum(float(v) for k, v in row.items() if k.startswith(start)), 1.0)
    shared = {(row["one"], row["other"]): float(row["shared"]) for row in read("domains_shared")}
    assert shared["one", "two"] == shared["one", "one"] == shared["two", "two"]  # the same text


def test_what_the_machine_brings_along() -> None:
    found = domains.embedded()
    assert "code" in found and len(found) == len({id(texts) for texts in found.values()})
    for name, texts in found.items():
        assert 20 <= len(texts) <= 200 and all(0 < len(piece.output) <= 1000 for piece in texts), name
        assert [p.output for p in texts] == [p.output for p in domains.spread(texts[::-1])]


def test_one_text_is_not_enough(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A text.")
    (tmp_path / "tasks.toml").write_text('name = "alone"\n[tests.one]\nfile = "one.txt"\nkind = "text"\n')
    done = cli("run", "domains", "--data", str(tmp_path), "--dry-run")
    assert done.returncode == 2 and "domains: two or more texts are needed, here: one" in done.stderr
