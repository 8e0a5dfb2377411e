"""What speaks lm-eval's language: its tasks over our examples, its model around ours, and the quiet to run them in."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from smt_bench.data.example import Posed
from smt_bench.data.family import Task
from smt_bench.data.prompts import TEMPLATES, Example, question, shared_start, token_ids
from smt_bench.data.tasks import offered, parse, same, score
from smt_bench.evaluation import sandbox
from smt_bench.evaluation.protocols import EvalSettings, finite


def documents(task: Task, examples: Sequence[Example], tokenizer: Any, settings: EvalSettings) -> list[dict[str, Any]]:
    """What lm-eval is given of each question: `index`, `text` (the context) and, to choose from, `options` and `choices`."""
    prompts = [question(example, settings.template) for example in examples]
    docs: list[dict[str, Any]] = [{"index": i, "text": text} for i, text in enumerate(prompts)]
    if settings.protocol_of(task) == "likelihood":
        before = f"{task.lead} " if task.lead else ""  # of an option, in a response
        lead = _split(tokenizer, prompts[0], before, task.options or ())
        for doc, example in zip(docs, examples):
            doc["text"] += lead
            doc["options"] = list(offered(task, example))
            doc["choices"] = [f"{before}{option}"[len(lead) :] for option in doc["options"]]
    else:
        for doc in docs:
            doc["text"] = _as_trained(tokenizer, doc["text"])
    return docs


def lm_eval_task(
    task: Task,
    examples: Sequence[Example],
    golds: Sequence[str | float],
    tokenizer: Any,
    settings: EvalSettings,
    folder: Path,
) -> Any:
    """An lm-eval task over a JSON file of these examples, written to `folder`."""
    protocol = settings.protocol_of(task)
    docs = documents(task, examples, tokenizer, settings)
    file = folder / f"{task.name}.json"
    file.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")

    def process_results(doc: dict[str, Any], responses: list[Any]) -> dict[str, Any]:
        right = golds[doc["index"]]
        prediction: str | float | None
        loglik = worth = None
        sure: tuple[float | None, float | None] = (None, None)
        if protocol == "likelihood":
            scores = {option: score for option, (score, _) in zip(doc["options"], responses)}
            loglik = finite(scores.get(str(right), math.nan))
            broken = any(math.isnan(score) for score in scores.values())
            prediction = None if broken else max(scores, key=lambda option: scores[option])
            sure = (None, None) if broken else calibration(scores, str(right))
        else:
            prediction, worth = judged(task, examples[doc["index"]], right, responses[0])
        parsed = prediction is not None
        return {
            "acc": int(same(prediction, right) if worth is None else worth == 1), "parsed": int(parsed),
            "prediction": prediction, "loglik": loglik, "confidence": sure[0], "brier": sure[1], "score": worth,
            "text": None if protocol == "likelihood" else responses[0],
        }  # fmt: skip

    columns = ("prediction", "loglik", "confidence", "brier", "score", "text")
    aggregations = {"acc": "mean", "parsed": "mean"} | dict.fromkeys(columns, _not_aggregated)
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
        limits: dict[str, Any] = {
            "max_gen_toks": settings.new_tokens(task),
            "num_beams": settings.beams,
            "do_sample": False,
        }
        if settings.repetition_penalty != 1:
            limits["repetition_penalty"] = settings.repetition_penalty
        config |= {
            "output_type": "generate_until",
            "generation_kwargs": {"until": [TEMPLATES[settings.template].marker, *task.stops], **limits},
        }
    _, quiet_task = lm_eval_classes()
    return quiet_task(config=config)


def judged(task: Task, example: Example, right: str | float, response: str) -> tuple[str | float | None, float | None]:
    """What a generated answer says, and what it is worth (0 to 1) where the task grades answers.

    Of a program what became of it; `evaluate` has seen to it that running one is allowed.
    """
    said = parse(task, response)
    if not task.graded or said is None:
        return said, 0.0 if task.graded else None
    if not task.runs_code:
        return said, score(task, str(said), str(right))
    lead = example.lead if isinstance(example, Posed) else ""
    ended = sandbox.outcome(f"{lead}{response}\n\n{example.answer}\n")
    return ended, float(ended == sandbox.PASSES)


def calibration(scores: Mapping[str, float], right: str) -> tuple[float | None, float | None]:
    """How sure a model is of the option it chooses, and how far its probabilities are from the truth.

    Args:
        scores: log-likelihood of every option (nats).
        right: the gold option.

    Returns:
        The largest probability over the options, and the Brier score sum_k (p_k - [k is right])^2, 0 to 2 (Brier 1950);
        rounded to six digits, None where no option has a likelihood.
    """
    top = max(scores.values())
    if not math.isfinite(top):
        return None, None
    weights = {option: math.exp(score - top) for option, score in scores.items()}
    total = sum(weights.values())
    squares = sum((weight / total - (option == right)) ** 2 for option, weight in weights.items())
    return round(max(weights.values()) / total, 6), round(squares, 6)


def _as_trained(tokenizer: Any, text: str) -> str:
    """The prompt without those of its last spaces that training text fuses with the response, see `shared_start`."""
    start = shared_start(tokenizer, text, token_ids(tokenizer, text + "the"))
    return start[0] if start else text


def _split(tokenizer: Any, text: str, before: str, options: tuple[str, ...]) -> str:
    """How much of an answer goes into the context, so that the options differ in as few tokens as possible.

    Mostly "the correct answer is answer", leaving "1", "2", ...; where a tokenizer reads "answer1" as one token the
    context ends one word earlier, and in the worst case (the boundary to "is" is no token boundary) with the prompt.

    Args:
        tokenizer: the tokenizer.
        text: a prompt.
        before: what stands before the option in a response, with the space between them.
        options: all of the task's.

    Returns:
        The text to append to the prompt.
    """
    shared = os.path.commonprefix([f"{before}{option}" for option in options]).rstrip()
    for lead in dict.fromkeys((shared, before.rstrip())):
        head = token_ids(tokenizer, text + lead)
        wholes = [token_ids(tokenizer, f"{text}{before}{option}") for option in options]
        if all(len(whole) > len(head) and whole[: len(head)] == head for whole in wholes):
            return lead
    return ""


def _not_aggregated(_values: list[Any]) -> None:
    """A column that lm-eval carries along without a mean."""


@cache
def lm_eval_classes() -> tuple[Any, Any]:
    """lm-eval's model and task, adapted; made on first use because their import takes seconds."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    class InMemory(HFLM):  # type: ignore[misc]  # a class without types
        """Reports progress, shows no bars, begins where a prompt ends, and ends generation at the end-of-text token alone.

        A tokenizer that appends the end-of-text token would have the answer start after the end, and every option be scored
        by that token.

        HFLM also stops where the end-of-text string appears in the first rows of the batch, one row per prompt. Under
        beam search a prompt has several rows and a finished beam is not yet the best one: the search would be cut
        short, differently for every batch size.
        """

        report: Callable[[str, int], None]

        @cached_property
        def appended(self) -> int:
            """Tokens that the tokenizer puts behind every text."""
            return len(self.tokenizer("x").input_ids) - len(token_ids(self.tokenizer, "x"))

        def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
            ids: list[int] = super().tok_encode(string, *args, **kwargs)
            return ids[: len(ids) - self.appended]

        def tok_batch_encode(
            self, strings: list[str], *args: Any, left_truncate_len: int | None = None, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            room = left_truncate_len and left_truncate_len + self.appended
            ids_BT, mask_BT = super().tok_batch_encode(strings, *args, left_truncate_len=room, **kwargs)
            kept = ids_BT.shape[1] - self.appended
            return ids_BT[:, :kept], mask_BT[:, :kept]

        def tok_decode(self, tokens: Any, *args: Any, **kwargs: Any) -> str:
            """Sentencepiece takes a text's first space away, which in a program is part of the indentation."""
            text: str = super().tok_decode(tokens, *args, **kwargs)
            pieces = "".join(map(str, self.tokenizer.convert_ids_to_tokens(tokens))) if isinstance(tokens, list) else ""
            lost = (len(pieces) - len(pieces.lstrip("\u2581"))) - (len(text) - len(text.lstrip(" ")))
            return " " * max(0, lost) + text

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().generate_until(requests, disable_tqdm=True)

        def _model_call(self, inps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            logits: Tensor = super()._model_call(inps, *args, **kwargs)
            self.report("likelihood", len(inps))
            return logits

        def _model_generate(self, context: Tensor, max_length: int, stop: Any, **kwargs: Any) -> Tensor:
            tokens: Tensor = super()._model_generate(context, max_length, [], eos_token_id=self.eot_token_id, **kwargs)
            self.report("llm-adapters", len(context))
            return tokens

    class QuietTask(ConfigurableTask):  # type: ignore[misc]  # a class without types
        """Renders its prompts without a progress bar."""

        def build_all_requests(self, **kwargs: Any) -> None:
            with contextlib.redirect_stderr(io.StringIO()):  # its bar cannot be switched off otherwise
                super().build_all_requests(**kwargs)

    return InMemory, QuietTask


@contextlib.contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Puts the model in evaluation mode and every module back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def borrowed(model: Any, tokenizer: Any) -> Iterator[None]:
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
        with eval_mode(model):
            yield
    finally:
        del model.tie_weights
        model.generation_config, tokenizer.pad_token, tokenizer.padding_side = before
        random.setstate(numbers)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
