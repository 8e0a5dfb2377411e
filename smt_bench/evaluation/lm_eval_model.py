"""lm-eval's model and task classes, adapted, and the state in which a model of ours is lent to them."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any

from torch import Tensor

from smt_bench.data.prompts import token_ids


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
