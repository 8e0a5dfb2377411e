"""Evaluation against naive loops, for models that know the answers and models that know none."""

import copy
import json
import logging
import math
import os
import random
import tempfile

import numpy
import pytest
import torch
from helpers import ROOT, small_tokenizer, tiny_llama
from peft import LoraConfig, inject_adapter_in_model
from quiz import NAMES, TESTS, choices
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from smt_bench.data import prompts
from smt_bench.data.prompts import TEMPLATE, Example, encode, prompt, question
from smt_bench.evaluation.evaluate import evaluate
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.evaluation.lm_eval_adapter import _as_trained, _split
from smt_bench.evaluation.lm_eval_model import lm_eval_classes
from smt_bench.evaluation.protocols import EvalSettings

REAL = ROOT.parent / "shared/data/llm-adapters/dataset"
LEAD = "the correct answer is answer"


@pytest.fixture(autouse=True, scope="module")
def short_template():
    """A template without the long preamble, which the 300-token vocabulary spells letter by letter."""
    with pytest.MonkeyPatch.context() as patch:
        template = prompts.Template(*2 * (lambda example: example.instruction + "\n",))
        patch.setitem(prompts.TEMPLATES, "short", template)
        yield


def settings(protocol="likelihood", beams=1, batch_size=4, template="short", new=12, math_new=32):
    return EvalSettings(protocol, beams, new, math_new, batch_size, template)


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def train(steps):
    """A tiny model trained on every test question and answer."""
    model, tokenizer = tiny_llama(), small_tokenizer()
    items = [encode(example, tokenizer, "short", False, 512) for task in TESTS.values() for example in task]
    longest = max(len(item.ids) for item in items)
    ids = torch.tensor([item.ids + (0,) * (longest - len(item.ids)) for item in items])
    labels = torch.tensor([item.labels + (-100,) * (longest - len(item.ids)) for item in items])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()  # padding is on the right: the causal mask suffices
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.fixture(scope="module")
def memorised(short_template):
    return train(100)


def naive_scores(model, tokenizer, text, options):
    """Log-likelihood of each option's last token, one pass per option."""
    scores = []
    for option in options:
        ids = torch.tensor(tokenizer(text + LEAD + option).input_ids)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, -2].double()
        scores.append(torch.log_softmax(logits, -1)[ids[-1]].item())
    return scores


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("protocol", ["likelihood", "llm-adapters"])
def test_a_model_that_knows_the_answers_gets_all_of_them(memorised, tokenizer, protocol, beams):
    results = evaluate(memorised, tokenizer, TESTS, settings(protocol, beams))
    assert results == json.loads(json.dumps(results))
    for name, expected in [("ARC-Easy", protocol), ("gsm8k", "llm-adapters")]:
        result = results[name]
        assert (result["accuracy"], result["stderr"], result["format_failures"]) == (1.0, 0.0, 0)
        assert result["protocol"] == expected  # arithmetic is generated whatever was asked for
        assert result["examples"]["prediction"] == result["examples"]["gold"]  # so the order was kept, too
    assert results["ARC-Easy"]["examples"]["gold"] == [example.answer for example in TESTS["ARC-Easy"]]
    assert results["gsm8k"]["examples"]["gold"] == [5.0, 6.0, 7.0, 8.0, 9.0, 7.0]
    assert results["gsm8k"]["examples"]["loglik"] == [None] * 6 and "brier" not in results["gsm8k"]["examples"]


def test_likelihood_equals_a_naive_loop(tokenizer):
    model, examples = tiny_llama(3).eval(), list(choices(40))
    result = evaluate(model, tokenizer, {"ARC-Easy": examples}, settings())["ARC-Easy"]
    right = 0
    for i, example in enumerate(examples):
        scores = naive_scores(model, tokenizer, prompt(example, "short"), "1234" if i % 2 else "123")
        best = max(range(len(scores)), key=scores.__getitem__)
        assert result["examples"]["prediction"][i] == f"answer{best + 1}"
        assert result["examples"]["loglik"][i] == pytest.approx(scores[i % 3], abs=1e-4)
        shares = [math.exp(score - max(scores)) for score in scores]
        shares = [share / sum(shares) for share in shares]
        assert result["examples"]["confidence"][i] == pytest.approx(shares[best], abs=1e-4)
        squares = sum((share - (k == i % 3)) ** 2 for k, share in enumerate(shares))
        assert result["examples"]["brier"][i] == pytest.approx(squares, abs=2e-4)
        right += best == i % 3
    p = right / 40
    assert 0 < p < 1
    assert result["accuracy"] == p
    assert result["stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 40))
    assert sum(result["examples"]["correct"]) == right and result["format_failures"] == 0


def test_options_share_one_forward_pass(tokenizer):
    model, rows = tiny_llama(), []
    model.register_forward_pre_hook(lambda _m, args, kwargs: rows.append(len(args[0])), with_kwargs=True)
    calls = []
    tests = {"ARC-Easy": list(choices(10)), "piqa": [Example(f"{n}?", "", "", "solution1") for n in NAMES]}
    evaluate(model, tokenizer, tests, settings(batch_size=4), lambda *call: calls.append(call))
    assert rows == [4, 4, 4, 4, 1]  # one row per question, 17 in all
    assert calls == [("likelihood", done, 17) for done in (4, 8, 12, 16, 17)]


def test_only_offered_options_are_scored(tokenizer):
    model = tiny_llama()
    five = tokenizer("answer5").input_ids[-1]
    model.lm_head.register_forward_hook(lambda _m, _a, out: out.index_fill(-1, torch.tensor(five), 100.0))
    result = evaluate(model, tokenizer, {"ARC-Easy": list(choices())}, settings())["ARC-Easy"]
    assert "answer5" not in result["examples"]["prediction"]


def test_equal_questions_keep_their_own_gold(tokenizer):
    twins = [Example("Q? Answer1: a Answer2: b", "", "", f"answer{i}") for i in (1, 2, 1)]
    result = evaluate(tiny_llama(), tokenizer, {"openbookqa": twins}, settings())["openbookqa"]
    assert sorted(result["examples"]["correct"]) in ([0, 0, 1], [0, 1, 1])


def test_unreadable_answers_are_wrong_and_counted_apart(tokenizer):
    results = evaluate(tiny_llama(), tokenizer, TESTS | {"AQuA": [Example("q", "", "", "B")]}, settings("llm-adapters"))
    for result in results.values():
        columns = result["examples"]
        assert result["format_failures"] == sum(p is None for p in columns["prediction"])
        assert result["format_failure_rate"] == result["format_failures"] / result["n"]
        assert all(not right for right, parsed in zip(columns["correct"], columns["parsed"]) if not parsed)
    assert results["ARC-Easy"]["format_failure_rate"] == 1.0


@pytest.mark.parametrize("beams", [1, 4])
def test_generation_equals_plain_generate_for_any_batch(tokenizer, beams):
    """Left padding, mask and stopping do not change an answer; a half-trained model makes the beams disagree."""
    model, texts, answers = train(25).eval(), [], {}
    for example in [*TESTS["ARC-Easy"], *TESTS["gsm8k"]]:
        ids = torch.tensor([tokenizer(prompt(example, "short")).input_ids])
        limits = {"max_new_tokens": 12, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **limits)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).split("### Response:")[0])
    from lm_eval.api.instance import Instance

    for size in (1, 5):
        lm = lm_eval_classes()[0](pretrained=model, tokenizer=small_tokenizer(), batch_size=size)
        lm.report = lambda *_: None
        kwargs = {"until": ["### Response:"], "max_gen_toks": 12, "num_beams": beams, "do_sample": False}
        asked = [
            Instance("generate_until", {}, (prompt(example, "short"), dict(kwargs)), 0)
            for example in [*TESTS["ARC-Easy"], *TESTS["gsm8k"]]
        ]
        answers[size] = lm.generate_until(asked)
    assert answers[1] == answers[5] == texts
    assert len(set(texts)) > 2


def test_nothing_of_the_caller_changes(tokenizer, memorised, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, tokenizer = copy.deepcopy(memorised).train(), small_tokenizer()
    model.model.layers[0].eval()
    model.generation_config.repetition_penalty = 5.0  # a checkpoint's habit that must not count
    modes = [module.training for module in model.modules()]
    config, level = model.generation_config, logging.getLogger("lm_eval").level
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    capfd.readouterr()
    first = evaluate(model, tokenizer, TESTS, settings("llm-adapters"))
    assert first["gsm8k"]["accuracy"] == 1.0
    assert evaluate(model, tokenizer, TESTS, settings("llm-adapters")) == first
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in model.modules()] == modes
    assert model.generation_config is config and logging.getLogger("lm_eval").level == level
    assert tokenizer.pad_token is None and tokenizer.padding_side == "right"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), numpy.random.get_state()[1].tolist()) == states[1:]
    assert not os.listdir(tmp_path)


def test_changed_data_under_the_same_name_is_never_stale(memorised, tokenizer):
    for right in ("answer1", "answer3"):
        question = [Example(TESTS["ARC-Easy"][0].instruction, "", "", right)]
        result = evaluate(memorised, tokenizer, {"ARC-Easy": question}, settings())["ARC-Easy"]
        assert result["examples"]["gold"] == [right] and result["accuracy"] == float(right == "answer1")


@pytest.mark.parametrize("protocol", ["likelihood", "llm-adapters"])
def test_a_diverged_model_is_wrong_and_does_not_crash(tokenizer, protocol):
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    for beams in (1, 4):
        results = evaluate(model, tokenizer, TESTS, settings(protocol, beams))
        assert json.dumps(results, allow_nan=False)
        assert results["ARC-Easy"]["accuracy"] == 0.0 and results["ARC-Easy"]["format_failures"] == 6
        assert results["ARC-Easy"]["examples"]["loglik"] == [None] * 6
        assert results["ARC-Easy"]["examples"].get("confidence", [None] * 6) == [None] * 6
    assert response_loglik(model, tokenizer, TESTS["gsm8k"], "short", 64, 4)[0]["loglik"] is None


def test_split_moves_to_the_word_where_an_option_is_one_token(tokenizer):
    words = {
        word: i for i, word in enumerate(["<unk>", "</s>", "the", "correct", "answer", "is", "answer1", "answer2"])
    }
    whole = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wordy = PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>", eos_token="</s>")
    options = ("answer1", "answer2")
    before = "the correct answer is "
    assert _split(tokenizer, "q\n", before, options) == LEAD
    assert _split(tokenizer, "q\n", before, ("true", "false")) == "the correct answer is"
    assert _split(wordy, "q\n", before, options) == "the correct answer is"
    assert _split(tokenizer, "q ", "", options) == "answer"  # a response that is the option alone
    assert _split(tokenizer, "q ", "", ("true", "false")) == ""
    model = tiny_llama(vocab_size=8)
    with torch.no_grad():
        model.lm_head.weight[words["answer2"]] = 0
        model.lm_head.weight[words["answer1"]] = 0
    model.lm_head.register_forward_hook(lambda _m, _a, out: out + torch.eye(8)[words["answer2"]])
    result = evaluate(model, wordy, {"openbookqa": [Example("q Answer1: Answer2:", "", "", "answer2")]}, settings())
    assert result["openbookqa"]["accuracy"] == 1.0


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_a_module_in_place_of_a_tied_one_stays(tokenizer):
    model = tiny_llama(tie_word_embeddings=True)
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False), model)
    before = {name: id(value) for name, value in model.named_parameters()}
    assert evaluate(model, tokenizer, TESTS, settings())["ARC-Easy"]["n"] == 6
    assert {name: id(value) for name, value in model.named_parameters()} == before
    assert "tie_weights" not in vars(model)


ITEM = Example("Is it?", "", "The answer", "x")
ITEM_WITH_INPUT = Example("Is it?", "Look.", "The answer", "x")


def test_generation_starts_from_tokens_that_training_showed(tokenizer):
    """The template's last space may belong to the response's first token; the context must not end in another one."""
    for example in (ITEM, ITEM_WITH_INPUT):
        text = question(example, TEMPLATE)
        context = _as_trained(tokenizer, text)
        trained = tokenizer(text + "the answer").input_ids
        assert trained[: len(tokenizer(context).input_ids)] == tokenizer(context).input_ids
        assert text.startswith(context) and text.rstrip(" ") == context.rstrip(" ")
    assert tokenizer(text).input_ids != trained[: len(tokenizer(text).input_ids)]  # or this test would show nothing


@pytest.mark.parametrize("protocol", ["likelihood", "llm-adapters"])
def test_a_tokenizer_that_appends_the_end_changes_nothing(memorised, protocol):
    """Neither do answers start after the end of the text, nor is every option scored by that token."""
    ending = small_tokenizer()
    ends = [("<s>", ending.bos_token_id), ("</s>", ending.eos_token_id)]
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    assert ending("x").input_ids[-1] == ending.eos_token_id
    plain = small_tokenizer()
    found = [evaluate(memorised, t, TESTS, settings(protocol, beams=4)) for t in (plain, ending)]
    assert found[0] == found[1] and found[0]["ARC-Easy"]["accuracy"] == 1.0
    short = [evaluate(tiny_llama(max_position_embeddings=40), t, TESTS, settings(protocol, math_new=20))
             for t in (plain, ending)]  # fmt: skip
    assert short[0] == short[1]  # where prompts are cut to the positions, too
    before, options = "the correct answer is ", ("answer1", "answer2")
    assert _split(plain, "q\n", before, options) == _split(ending, "q\n", before, options)
    logliks = [response_loglik(memorised, t, TESTS["gsm8k"], "short", 64, 4) for t in (plain, ending)]
    assert logliks[0] == logliks[1]


def test_bad_requests_are_refused(tokenizer):
    with pytest.raises(ValueError, match="protocol='greedy'"):
        settings("greedy")
    with pytest.raises(ValueError, match="beams=0"):
        settings(beams=0)
    with pytest.raises(ValueError, match="did you mean"):
        evaluate(tiny_llama(), tokenizer, {"bolq": TESTS["gsm8k"]}, settings())
    with pytest.raises(ValueError, match="no examples"):
        evaluate(tiny_llama(), tokenizer, {"boolq": []}, settings())
    with pytest.raises(ValueError, match="1024 positions"):
        evaluate(tiny_llama(), tokenizer, TESTS, settings(math_new=1024))
    assert evaluate(tiny_llama(), tokenizer, {}, settings()) == {}


@pytest.mark.skipif(not REAL.is_dir(), reason="the LLM-Adapters data is not at ../shared/data/llm-adapters")
def test_real_records(tokenizer):
    names = ["boolq", "piqa", "social_i_qa", "ARC-Easy", "ARC-Challenge", "openbookqa"]
    tests = {n: [Example(**r) for r in json.loads((REAL / n / "test.json").read_text())[:6]] for n in names}
    model = tiny_llama()
    results = evaluate(model, tokenizer, tests, settings(template=TEMPLATE))
    for name, result in results.items():
        assert result["n"] == 6 and result["format_failures"] == 0
        assert result["examples"]["gold"] == [example.answer for example in tests[name]]
        assert all(loglik < 0 for loglik in result["examples"]["loglik"])
    assert all(r["tokens"] > 1 for r in response_loglik(model, tokenizer, tests["piqa"], TEMPLATE, 1024, 4))
