"""Whether tokenizer, model and lengths suit each other: what would otherwise be an index error in every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from typing import Any

from smt_bench.data import families
from smt_bench.data.cut import any_response
from smt_bench.data.datasets import DataSet
from smt_bench.data.prompts import Example, question, token_ids
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.protocols import EVAL_BATCH, EvalSettings
from smt_bench.machine.remembered import remembered
from smt_bench.models import build
from smt_bench.models.locate import Located
from smt_bench.questions.recipe import Recipe

SPECIAL = ("eos", "pad", "bos", "unk")


def check(located: Located, data: DataSet, recipe: Recipe, template: str, protocol: str) -> None:
    """Refuses a tokenizer, a model or data that do not fit together; what passed once is not looked at again.

    Args:
        located: the model's files.
        data: of the runs.
        recipe: theirs.
        template: of the prompts.
        protocol: of the evaluation.

    Raises:
        ValueError: what, the value, the remedy.
    """
    if (
        located.ref.weights == "hub" or data.family not in families.REGISTRY
    ):  # another package's code is not in the question
        return _check(located, data, recipe, template, protocol)

    def passed() -> bool:
        _check(located, data, recipe, template, protocol)
        return True

    tests = data.test_hashes
    about = [asdict(located.ref), data.train_sha256, len(data.heldout), tests, template, asdict(recipe), protocol]
    remembered(["suits", about], passed)


def _check(located: Located, data: DataSet, recipe: Recipe, template: str, protocol: str) -> None:
    name, r = located.ref.name, recipe
    model, tokenizer = build.outline(located), build.tokenizer(located)
    judged = EvalSettings(
        protocol, r.beams, r.max_new_tokens, r.max_new_tokens_math, EVAL_BATCH, template, r.repetition_penalty
    )
    check_tokens(name, tokenizer, model)
    check_responses(data, tokenizer, template, r.cutoff)
    check_lengths(name, tokenizer, model, r.cutoff, judged, data.tests)
    check_options(name, tokenizer, judged, data.tests)


def check_options(name: str, tokenizer: Any, settings: EvalSettings, tasks: Iterable[str]) -> None:
    """No option that is scored is the beginning of another, whatever follows: it could never be the less likely of the two.

    Args:
        name: the model's, for the message.
        tokenizer: the model's.
        settings: how answers are obtained.
        tasks: names.

    Raises:
        ValueError: one is.
    """
    for task in map(find_task, tasks):
        if task.options is None or settings.protocol_of(task) != "likelihood":
            continue
        ids = {option: token_ids(tokenizer, f"{task.lead} {option}".lstrip()) for option in task.options}
        for short, long in permutations(task.options, 2):
            if ids[long][: len(ids[short])] == ids[short]:
                raise ValueError(
                    f"{task.name}: for {name}'s tokenizer option {short!r} is the beginning of {long!r}, so that it would always "
                    "be the likelier one: choose --protocol llm-adapters, which has answers written, or other options"
                )


def check_tokens(name: str, tokenizer: Any, model: Any) -> None:
    """Every special token has a row of the embedding, and there is one that ends a text.

    Padding has no label and no attention: any id inside the embedding does, and without one the end-of-text token pads.

    Args:
        name: the model's, for the message.
        tokenizer: the model's.
        model: with or without storage.

    Raises:
        ValueError: no end-of-text token, or a special token without a row.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"model {name}: its tokenizer has no end-of-text token, with which every response ends: set eos_token in its "
            "tokenizer_config.json"
        )
    rows = len(model.get_input_embeddings().weight)
    for kind in SPECIAL:
        number = getattr(tokenizer, f"{kind}_token_id")
        if number is not None and not 0 <= number < rows:
            raise ValueError(
                f"model {name}: {kind}_token {getattr(tokenizer, f'{kind}_token')!r} has id {number}, the embedding {rows} rows: "
                "its tokenizer is another model's, or the embedding has to be resized and trained"
            )


def check_lengths(
    name: str,
    tokenizer: Any,
    model: Any,
    cutoff: int,
    settings: EvalSettings,
    tests: Mapping[str, Sequence[Example]],
) -> None:
    """The model has a position for every token of a training example, and of at least the shortest question and its answer.

    Longer questions lose their beginning, as lm-eval does it.

    Args:
        name: the model's, for the message.
        tokenizer: the model's.
        model: with or without storage.
        cutoff: tokens of a training example at most.
        settings: how answers are obtained.
        tests: questions by task.

    Raises:
        ValueError: too few positions.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:  # relative ones have no end
        return
    if positions < cutoff:
        raise ValueError(
            f"model {name}: {positions} positions, fewer than the recipe's cut-off of {cutoff} tokens: choose a model with more"
        )
    for task, examples in tests.items():
        texts = [question(example, settings.template) for example in examples]
        asked = len(token_ids(tokenizer, min(texts, key=len)))
        generated = settings.protocol_of(find_task(task)) == "llm-adapters"
        room = settings.new_tokens(find_task(task)) if generated else 1
        if asked + room > positions:
            raise ValueError(
                f"model {name}: {positions} positions, fewer than the {asked} tokens of the shortest question of {task} and "
                f"{room} of its answer: choose a model with more, or leave the task out with --tasks"
            )


def check_responses(data: DataSet, tokenizer: Any, template: str, cutoff: int) -> None:
    """Something is left of some response of the training examples, and of the held-out ones.

    Raises:
        ValueError: the cut-off leaves nothing of any.
    """
    for what, examples in (("training", data.train), ("held-out", data.heldout), *data.losses.items()):
        if examples and not any_response(examples, tokenizer, template, cutoff):
            raise ValueError(
                f"training set {data.train_source}: the cut-off of {cutoff} tokens leaves nothing of the response in any of the "
                f"{len(examples):,} {what} records: shorten their questions"
            )
