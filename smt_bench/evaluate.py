"""Evaluation with lm-eval: the model in memory, the tasks over local JSON, nothing from the network.

Two protocols. `likelihood` scores the answer options: everything that they share is part of the context, so that they
differ in one token and share one forward pass. `llm-adapters` generates and reads the first option (or the last number)
as the LLM-Adapters collection does, with its beams and lengths, but with the attention mask that its script leaves out.
Arithmetic tasks are generated under both. Separately, `response_loglik` gives the log-likelihood of held-out responses.

`lm_eval.evaluate` is called rather than `simple_evaluate`, which would reseed all random number generators, start git
and collect environment facts at every call, and return nothing on ranks other than 0.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from smt_bench.logits import labelled_logits
from smt_bench.prompts import IGNORED, Example, encode, prompt
from smt_bench.tasks import Task, find_task, gold, offered, parse, same

EVALUATION_VERSION = 1  # bump when the same settings can give other numbers
PROTOCOLS = ("likelihood", "llm-adapters")
Progress = Callable[[str, int, int], None]  # what is being computed, examples done, examples in all

_LEAD = "the correct answer is"  # how every response of the commonsense tasks begins
_MARKER = "### Response:"  # a model that starts a new prompt is cut there, as LLM-Adapters' split does


@dataclass(frozen=True)
class EvalSettings:
    """How answers are obtained; part of a run's key.

    Attributes:
        protocol: "likelihood" or "llm-adapters"; what has to be generated is generated under both.
        beams: beams of the beam search (LLM-Adapters: 4).
        max_new_tokens: tokens to generate for a task with options (LLM-Adapters: 32).
        max_new_tokens_math: the same for the arithmetic tasks (LLM-Adapters: 256).
        batch_size: prompts per forward pass; they are batched by length.
        template: name of the prompt template.
    """

    protocol: str
    beams: int
    max_new_tokens: int
    max_new_tokens_math: int
    batch_size: int
    template: str

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol={self.protocol!r} is unknown: choose one of {', '.join(PROTOCOLS)}")
        for name in ("beams", "max_new_tokens", "max_new_tokens_math", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is too small: choose at least 1")

    def protocol_of(self, task: Task) -> str:
        """The protocol that this task really gets."""
        return "llm-adapters" if task.generated else self.protocol

    def new_tokens(self, task: Task) -> int:
        """How many tokens may be generated for this task."""
        return self.max_new_tokens_math if task.family == "math" else self.max_new_tokens


def evaluate(
    model: Any,
    tokenizer: Any,
    tests: Mapping[str, Sequence[Example]],
    settings: EvalSettings,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Answers every test question and returns plain JSON per task.

    Args:
        model: a Hugging Face causal language model, plain or with modules replaced in place; left as it was found.
        tokenizer: its tokenizer; a missing padding token is borrowed for the call only.
        tests: examples by task name; their order is kept.
        settings: protocol, beams, lengths.
        progress: called after every batch.

    Returns:
        Per task `n`, `accuracy` p (0 to 1), `stderr` (sqrt(p (1 - p) / n), the binomial standard error over examples),
        `format_failures` and `format_failure_rate` (no answer could be read; also counted as wrong), `protocol` (the
        one really used), and `examples`, columns in input order: `gold`, `prediction` (None if unreadable), `correct`,
        `parsed` (0 or 1) and `loglik`, the log-likelihood (nats) of what tells the gold option from the others given
        the text before; None if the answer was generated or the value is not finite. Equal likelihoods go to the
        option named first.

    Raises:
        ValueError: unknown task, no examples, or a gold answer that the task does not allow.
    """
    if not tests:
        return {}
    tasks = {name: find_task(name) for name in tests}
    for name, examples in tests.items():
        if not examples:
            raise ValueError(f"{name}: no examples to evaluate: leave the task out")
    golds = {name: [gold(tasks[name], example) for example in tests[name]] for name in tests}

    from lm_eval import evaluate as run_lm_eval  # seconds to import; not for those who only need the settings
    from lm_eval.tasks import TaskManager

    language_model, _ = _lm_eval_classes()
    totals = dict.fromkeys(PROTOCOLS, 0)
    for name in tests:
        totals[settings.protocol_of(tasks[name])] += len(tests[name])
    with tempfile.TemporaryDirectory(prefix="smt-bench-evaluation-") as folder, _borrowed(model, tokenizer), _quiet():
        lm = language_model(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=settings.batch_size,
            softmax_dtype=torch.float32,
        )
        lm.report = _counter(totals, progress)
        for name, task in tasks.items():
            if settings.protocol_of(task) == "llm-adapters" and lm.max_length <= settings.new_tokens(task):
                raise ValueError(
                    f"{name}: {settings.new_tokens(task)} new tokens leave no room for a prompt in the model's "
                    f"{lm.max_length} positions: generate fewer"
                )
        built = [_lm_eval_task(tasks[n], tests[n], golds[n], tokenizer, settings, Path(folder)) for n in tests]
        loaded = TaskManager(include_defaults=False).load(built)
        logging.getLogger("lm_eval").setLevel(logging.WARNING)  # a prompt cut to the model's length is announced
        samples = run_lm_eval(lm=lm, task_dict=loaded, bootstrap_iters=0)["samples"]
        for protocol, total in totals.items():
            lm.report(protocol, total)  # equal prompts share a pass, so the counter may have stopped short
    return {name: _summary(settings.protocol_of(tasks[name]), golds[name], samples[name]) for name in tests}


def average(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> float | None:
    """Mean accuracy over exactly the named tasks, every task counting the same; None if one of them is missing."""
    if not names or any(name not in results for name in names):
        return None
    return sum(float(results[name]["accuracy"]) for name in names) / len(names)


def response_loglik(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    template: str,
    cutoff: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Log-likelihood of each held-out response given its prompt, teacher-forced, in one pass.

    Logits are computed at response positions only: a hook hands the output layer just these rows, so that whatever an
    architecture does to its logits afterwards (scaling, soft-capping) stays in effect.

    Args:
        model: a Hugging Face causal language model, plain or with modules replaced in place.
        tokenizer: its tokenizer.
        examples: prompts and responses; `output` is scored.
        template: name of the prompt template.
        cutoff: longest sequence in tokens, prompt and response together.
        batch_size: sequences per pass, batched by length.
        progress: called after every batch.

    Returns:
        In input order `loglik` (nats, summed over the response and the end-of-text token) and `tokens` (how many that
        are). `loglik` is None if the cutoff leaves no response (`tokens` is then 0) or if it is not finite.
    """
    encoded = [encode(example, tokenizer, template, train_on_inputs=False, cutoff=cutoff) for example in examples]
    # The first token has nothing before it, so it is never predicted.
    counts = [sum(label != IGNORED for label in item.labels[1:]) for item in encoded]
    # Longest first: if memory does not suffice, that shows at once.
    order = sorted((i for i in range(len(encoded)) if counts[i]), key=lambda i: (-len(encoded[i].ids), i))
    results: list[dict[str, Any]] = [{"loglik": None, "tokens": count} for count in counts]
    done = len(examples) - len(order)
    with _eval_mode(model), torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            lengths = [len(encoded[i].ids) for i in batch]
            ids_BT = torch.zeros(len(batch), max(lengths), dtype=torch.long)  # the mask hides what pads
            labels_BT = torch.full_like(ids_BT, IGNORED)
            mask_BT = torch.zeros_like(ids_BT)
            for row, (i, length) in enumerate(zip(batch, lengths)):
                ids_BT[row, :length] = torch.tensor(encoded[i].ids)
                labels_BT[row, :length] = torch.tensor(encoded[i].labels)
                mask_BT[row, :length] = 1
            logliks_N = _label_logliks(model, ids_BT, mask_BT, labels_BT)
            for i, part in zip(batch, logliks_N.split([counts[i] for i in batch])):
                results[i]["loglik"] = _finite(part.sum().item())
            done += len(batch)
            if progress:
                progress("response log-likelihood", done, len(examples))
    return results


def _label_logliks(model: Any, ids_BT: Tensor, mask_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """Log-likelihoods (N,), float64, of the N labelled tokens, row by row; softmax in float32."""
    shifted_BT = functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)  # what to predict from each position
    logits, targets_N = labelled_logits(model, ids_BT.to(model.device), shifted_BT, mask_BT.to(model.device))
    return -functional.cross_entropy(logits.float(), targets_N, reduction="none").double().cpu()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no NaN


def _counter(totals: Mapping[str, int], progress: Progress | None) -> Callable[[str, int], None]:
    """Adds up examples per protocol and passes them on."""
    done = dict.fromkeys(totals, 0)

    def report(protocol: str, count: int) -> None:
        before, done[protocol] = done[protocol], min(done[protocol] + count, totals[protocol])
        if progress and done[protocol] > before:
            progress(protocol, done[protocol], totals[protocol])

    return report


def _summary(protocol: str, golds: Sequence[str | float], samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One task's result from the samples that lm-eval logged."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    assert len(ordered) == len(golds), "lm-eval answered another number of examples"
    correct = [int(sample["acc"]) for sample in ordered]
    parsed = [int(sample["parsed"]) for sample in ordered]
    n = len(golds)
    accuracy = sum(correct) / n
    failures = n - sum(parsed)
    return {
        "n": n,
        "accuracy": accuracy,
        "stderr": math.sqrt(accuracy * (1 - accuracy) / n),
        "format_failures": failures,
        "format_failure_rate": failures / n,
        "protocol": protocol,
        "examples": {
            "gold": list(golds),
            "prediction": [sample["prediction"] for sample in ordered],
            "correct": correct,
            "parsed": parsed,
            "loglik": [sample["loglik"] for sample in ordered],
        },
    }


# What follows speaks lm-eval's language.


def _lm_eval_task(
    task: Task,
    examples: Sequence[Example],
    golds: Sequence[str | float],
    tokenizer: Any,
    settings: EvalSettings,
    folder: Path,
) -> Any:
    """An lm-eval task over a JSON file of these examples, written to `folder`."""
    protocol = settings.protocol_of(task)
    prompts = [prompt(example, settings.template) for example in examples]
    docs: list[dict[str, Any]] = [{"index": i, "text": text} for i, text in enumerate(prompts)]
    if protocol == "likelihood":
        lead, shared = _split(tokenizer, prompts[0], task.options or ())
        for doc, example in zip(docs, examples):
            doc["text"] += lead
            doc["options"] = list(offered(task, example))
            doc["choices"] = [f" {option}"[len(shared) :] if lead else f"{_LEAD} {option}" for option in doc["options"]]
    else:
        for doc in docs:
            doc["text"] = _as_trained(tokenizer, doc["text"])
    file = folder / f"{task.name}.json"
    file.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")

    def process_results(doc: dict[str, Any], responses: list[Any]) -> dict[str, Any]:
        right = golds[doc["index"]]
        prediction: str | float | None
        loglik = None
        if protocol == "likelihood":
            scores = {option: score for option, (score, _) in zip(doc["options"], responses)}
            loglik = _finite(scores.get(str(right), math.nan))
            broken = any(math.isnan(score) for score in scores.values())
            prediction = None if broken else max(scores, key=lambda option: scores[option])
        else:
            prediction = parse(task, responses[0])
        parsed = prediction is not None
        return {"acc": int(same(prediction, right)), "parsed": int(parsed), "prediction": prediction, "loglik": loglik}

    aggregations = {"acc": "mean", "parsed": "mean", "prediction": _not_aggregated, "loglik": _not_aggregated}
    config: dict[str, Any] = {
        "task": task.name,
        "dataset_path": "json",
        # The data sets library caches beside the file: gone with the folder, and so never stale.
        "dataset_kwargs": {
            "data_files": {"test": str(file)},
            "cache_dir": str(folder / "cache"),
            "keep_in_memory": True,
        },
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_text": "text",
        "doc_to_target": "index",  # the gold answer is looked up, so that no JSON reader changes its type
        "target_delimiter": "",
        "process_results": process_results,
        "metric_list": [
            {"metric": name, "aggregation": how, "higher_is_better": True} for name, how in aggregations.items()
        ],
    }
    if protocol == "likelihood":
        config |= {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": 0}
    else:
        limits = {"max_gen_toks": settings.new_tokens(task), "num_beams": settings.beams, "do_sample": False}
        config |= {"output_type": "generate_until", "generation_kwargs": {"until": [_MARKER], **limits}}
    _, quiet_task = _lm_eval_classes()
    return quiet_task(config=config)


def _as_trained(tokenizer: Any, text: str) -> str:
    """The prompt without those of its last spaces that training text fuses with the response.

    The template ends in spaces. Many tokenizers join the last of them to the first word of the response, so that the
    tokens of the bare prompt end in something training never showed.
    """
    stem = text.rstrip(" ")
    whole = tokenizer(text + "The").input_ids
    for spaces in range(len(text) - len(stem), -1, -1):
        head = tokenizer(stem + " " * spaces).input_ids
        if whole[: len(head)] == head:
            return stem + " " * spaces
    return text


def _split(tokenizer: Any, text: str, options: tuple[str, ...]) -> tuple[str, str]:
    """How much of an answer goes into the context, so that the options differ in as few tokens as possible.

    Mostly "the correct answer is answer", leaving "1", "2", ...; where a tokenizer reads "answer1" as one token the
    context ends one word earlier, and in the worst case (the boundary to "is" is no token boundary) with the prompt.

    Returns:
        The text to append to the prompt, and the part of " option" that it contains.
    """
    for shared in (os.path.commonprefix([f" {option}" for option in options]).rstrip(), ""):
        context = text + _LEAD + shared
        head = tokenizer(context).input_ids
        wholes = [tokenizer(f"{text}{_LEAD} {option}").input_ids for option in options]
        if all(len(whole) > len(head) and whole[: len(head)] == head for whole in wholes):
            return _LEAD + shared, shared
    return "", ""


def _not_aggregated(_values: list[Any]) -> None:
    """A column that lm-eval carries along without a mean."""


@cache
def _lm_eval_classes() -> tuple[Any, Any]:
    """lm-eval's model and task, adapted; made on first use because their import takes seconds."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    class InMemory(HFLM):
        """Reports progress, shows no bars, and ends generation at the end-of-text token alone.

        HFLM also stops where the end-of-text string appears in the first rows of the batch, one row per prompt. Under
        beam search a prompt has several rows and a finished beam is not yet the best one: the search would be cut
        short, differently for every batch size.
        """

        report: Callable[[str, int], None]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().generate_until(requests, disable_tqdm=True)

        def _model_call(self, inps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            logits = super()._model_call(inps, *args, **kwargs)
            self.report("likelihood", len(inps))
            return logits

        def _model_generate(self, context: Tensor, max_length: int, stop: Any, **kwargs: Any) -> Tensor:
            tokens = super()._model_generate(context, max_length, [], eos_token_id=self.eot_token_id, **kwargs)
            self.report("llm-adapters", len(context))
            return tokens

    class QuietTask(ConfigurableTask):
        """Renders its prompts without a progress bar."""

        def build_all_requests(self, **kwargs: Any) -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # its bar cannot be switched off otherwise
                super().build_all_requests(**kwargs)

    return InMemory, QuietTask


@contextlib.contextmanager
def _eval_mode(model: Any) -> Iterator[None]:
    """Puts the model in evaluation mode and every module back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _borrowed(model: Any, tokenizer: Any) -> Iterator[None]:
    """Evaluation mode, a padding token, and generation defaults of our own; all put back at the end.

    A checkpoint's generation config may ask for sampling or a repetition penalty, which no protocol here has. And
    lm-eval draws from Python's random numbers (to name tasks), which must not move those of a training run, and ties
    the weights anew, which fails where a method has put its own module in place of a tied one.
    """
    from transformers import GenerationConfig

    before = model.generation_config, tokenizer.pad_token, tokenizer.padding_side
    numbers = random.getstate()
    model.generation_config = GenerationConfig(length_penalty=1.0, early_stopping=False)
    model.tie_weights = lambda *_args, **_kwargs: None  # hides the class's method until deleted
    try:
        with _eval_mode(model):
            yield
    finally:
        del model.tie_weights
        model.generation_config, tokenizer.pad_token, tokenizer.padding_side = before
        random.setstate(numbers)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences lm-eval below ERROR and the bars of the data sets library; exceptions and errors pass."""
    import datasets

    logger = logging.getLogger("lm_eval")
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
