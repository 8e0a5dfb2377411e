"""A program's first line keeps its indentation, whatever the tokenizer's decoder does with a text's first space."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from smt_bench.evaluation.lm_eval_model import lm_eval_classes


def test_the_space_that_sentencepiece_takes_away_is_put_back() -> None:
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -1.0), *((c, -2.0) for c in "retun1:")]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="</s>")
    whole, head = "1:    return 1", tokenizer("1:").input_ids
    ids = tokenizer(whole).input_ids[len(head) :]
    assert tokenizer.decode(ids) == "   return 1"
    kind, _ = lm_eval_classes()
    model = object.__new__(kind)
    model.tokenizer = tokenizer
    assert model.tok_decode(ids) == "    return 1"
    assert model.tok_decode(ids[4:]) == "return 1" and model.tok_decode([]) == ""
