"""The log-likelihood of held-out responses against a naive pass in float64, and lm-eval's."""

import copy

import pytest
import torch
from helpers import small_tokenizer, tiny_llama
from peft import LoraConfig, inject_adapter_in_model
from quiz import choices, sums

from smt_bench.data import prompts
from smt_bench.data.prompts import Example, encode
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.evaluation.lm_eval_model import lm_eval_classes


@pytest.fixture(autouse=True, scope="module")
def short_template():
    """A template without the long preamble, which the 300-token vocabulary spells letter by letter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(prompts.TEMPLATES, "short", prompts.Template(*[lambda example: example.instruction + "\n"] * 2))
        yield


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def naive_loglik(model, item):
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(torch.tensor([item.ids])).logits[0]
    logliks = torch.log_softmax(logits, -1)
    return sum(logliks[t - 1, label].item() for t, label in enumerate(item.labels) if label != -100)


def test_response_loglik_equals_a_naive_pass_and_lm_eval(tokenizer):
    model = tiny_llama(5).eval()
    examples = [*choices(5), *sums()]
    items = [encode(example, tokenizer, "short", False, 64) for example in examples]
    calls = []
    results = response_loglik(model, tokenizer, examples, "short", 64, 3, lambda *call: calls.append(call))
    assert calls[-1] == ("response log-likelihood", 11, 11)
    assert [result["tokens"] for result in results] == [sum(t != -100 for t in item.labels) for item in items]
    lm = lm_eval_classes()[0](pretrained=model, tokenizer=small_tokenizer(), batch_size=4)
    lm.report = lambda *_: None
    cuts = [len(item.ids) - result["tokens"] for item, result in zip(items, results)]
    asked = [(("", ""), list(item.ids[:cut]), list(item.ids[cut:])) for item, cut in zip(items, cuts)]
    for item, result, (theirs, _) in zip(items, results, lm._loglikelihood_tokens(asked, disable_tqdm=True)):
        assert result["loglik"] == pytest.approx(naive_loglik(model, item), abs=1e-4)
        assert result["loglik"] == pytest.approx(theirs, abs=1e-4)


def test_response_loglik_with_adapters_in_place_computes_response_logits_only(tokenizer):
    model = tiny_llama(5)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "lm_head"], init_lora_weights=False, lora_dropout=0.5)
    inject_adapter_in_model(config, model)
    model.train()
    examples, rows = list(sums()), []
    model.get_output_embeddings().base_layer.register_forward_hook(lambda _m, _a, out: rows.append(out[0].shape[0]))
    results = response_loglik(model, tokenizer, examples, "short", 64, 4)
    assert model.training and sum(rows) == sum(result["tokens"] for result in results)
    model.eval()
    for example, result in zip(examples, results):
        item = encode(example, tokenizer, "short", False, 64)
        assert result["loglik"] == pytest.approx(naive_loglik(model, item), abs=1e-4)


def test_a_response_cut_off_entirely_has_no_likelihood(tokenizer):
    long = Example("q " * 60, "", "the correct answer is true", "true")
    results = response_loglik(tiny_llama(), tokenizer, [long, *sums()], "short", 40, 4)
    assert results[0] == {"loglik": None, "tokens": 0}
    assert all(result["loglik"] < 0 for result in results[1:])
    assert response_loglik(tiny_llama(), tokenizer, [], "short", 40, 4) == []
