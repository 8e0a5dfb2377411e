"""A small random LLaMA and a small tokenizer, both built in the process: no download, no file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]  # of the checkout
Cli = Callable[..., subprocess.CompletedProcess[str]]  # calls the command line, see conftest.py

_CORPUS = (
    "Below is an instruction that describes a task, paired with an input that provides further context.",
    "Write a response that appropriately completes the request. # noqa: E501 ### Instruction: ### Response: ### Input:",
    "Please choose the correct answer to the question: Answer format: answer1/answer2/answer3/answer4/answer5",
    "the correct answer is true, the correct answer is false, solution1 solution2 option1 option2 ending1 ending2",
    "There are 7 crayons in the drawer . Mary took 3 crayons out . How many crayons are there now ? The answer is 4.0",
)
VOCABULARY = 300


def tiny_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random two-layer LLaMA in float32: hidden 64, 4 heads (2 for keys and values), MLP 96, 300 tokens."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
        "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    }  # fmt: skip
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**(sizes | changes)))
    torch.random.set_rng_state(state)  # building a model must not move the caller's random numbers
    return model


@cache
def _byte_level_bpe() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    # Digits apart, as in LLaMA: "answer1" is "answer" + "1".
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return str(tokenizer.to_str())


def small_tokenizer() -> PreTrainedTokenizerFast:
    """A fresh byte-level BPE tokenizer of 300 tokens; like LLaMA's it prepends <s> and has no padding token."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level_bpe()), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
