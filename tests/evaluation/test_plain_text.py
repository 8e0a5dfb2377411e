"""The loss of plain text: every token but the first, each from what stands before it, as a naive loop in float64 has it."""

from __future__ import annotations

import torch
from helpers import small_tokenizer, tiny_llama

from smt_bench.data.example import Plain
from smt_bench.data.prompts import token_ids
from smt_bench.evaluation.heldout import response_loglik


def test_the_loss_of_plain_text_is_that_of_a_naive_loop() -> None:
    model, tokenizer = tiny_llama().double().eval(), small_tokenizer()
    texts = [
        "The answer is true, and how many crayons are there?",
        "Below is an instruction.",
        "Mary took 3 crayons " * 9,
    ]
    found = response_loglik(model, tokenizer, [Plain("", "", text, "") for text in texts], "smt-code", 40, 2)
    for text, one in zip(texts, found):
        ids = token_ids(tokenizer, text)[:40]
        total = 0.0
        for i in range(1, len(ids)):
            with torch.no_grad():
                logits = model(torch.tensor([ids[:i]])).logits[0, -1]
            total += float(logits.log_softmax(-1)[ids[i]])
        assert one["tokens"] == len(ids) - 1
        assert abs(one["loglik"] - total) < 1e-4 * abs(total)
