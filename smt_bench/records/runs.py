"""A run: one fully explicit question, and its key. A measurement: the same for questions about cost.

The key is the hash of the canonical JSON. Same key = same question; whatever merely happened (time, hardware,
commit, realised fraction) belongs to the record. Code changes that can change numbers bump `TRAINING_VERSION`, the
method's version or the evaluation's version, and so the key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

TRAINING_VERSION = 1
SCHEDULES = ("linear", "linear-hf", "cosine", "constant")  # what they mean: `training.optimizer`
BASES = ("", "nf4")  # of the frozen weights: whole, or 4 bits (`methods.nf4`)
SELECTIONS = ("last", "best")  # of the weights that are judged: `training.best`
OPTIMIZERS = ("adamw",)  # as `methods.base` builds it, unless a method needs another


@dataclass(frozen=True)
class ModelRef:
    """Which weights: registry name or id, revision (content or commit hash) and how they were obtained."""

    name: str
    revision: str
    weights: str


@dataclass(frozen=True)
class DataRef:
    """Which training text, and how it becomes a loss.

    Attributes:
        family: name of the data family.
        train: where the training records come from, e.g. "commonsense_170k.json" or "boolq+piqa".
        train_sha256: content hash of the training records in order.
        heldout: training records set aside for model selection.
        heldout_seed: seed of that split.
        template: prompt template.
        train_on_inputs: loss on prompt and response (True) or response only.
        cutoff: tokens per example at most.
        tune: held-out examples that choices are made by; the others are reported. 0: one set serves for both, as before there
            were two. Their sources stay together, see `data.sources`.
        split_seed: seed of that division.
        varies: whether the seed of the run also decides which examples are held out, their division and, where the data are
            made, the data ("seed"); "": all seeds have the same data.
        only: the tasks whose training records are used, joined by "+"; "": those of all tasks. What is held out stays the same.
        aside: how many were set aside, where `heldout` of them are looked at; 0: all are, and it is left out of the key.
        divided: with `aside`, what the two parts are of: "aside", all of these; "", in older records, the `heldout` that are
            looked at, which made an example that one run chose by one that another reports.
    """

    family: str
    train: str
    train_sha256: str
    heldout: int
    heldout_seed: int
    template: str
    train_on_inputs: bool
    cutoff: int
    tune: int = 0
    split_seed: int = 0
    varies: str = ""
    only: str = ""
    aside: int = 0
    divided: str = ""


@dataclass(frozen=True)
class MethodRef:
    """Which method; `config` is complete (defaults filled in), `fraction` is numbers trained / base parameters.

    `half` says how it trains a model in bf16 (`methods.base.Method.half`), whose forward passes are then under autocast; left out
    of the key where it is None: in float32, and in the bf16 of before there was autocast.
    """

    name: str
    version: int
    fraction: float | None
    config: dict[str, Any]
    half: str | None = None


class OtherVersion(ValueError):
    """A value that another version of smt-bench gives a meaning."""


@dataclass(frozen=True)
class TrainRef:
    """How it trains. `batch_size` examples per optimizer step, in micro-batches of `micro_batch_size`.

    `select`: which weights are judged: those of the "last" step, or the "best" by the loss on the tune part of the held-out
    examples, looked at every `select_every` steps and at the last; both are left out of the key where they are "last" and 0.
    `base`: of what bits the frozen weights are made, also while they are judged; left out of the key where it is "": whole.

    Raises:
        ValueError: a schedule, an optimizer or a base that training does not know; planned, executed or read from a record.
    """

    lr: float
    steps: int
    batch_size: int
    micro_batch_size: int
    lr_warmup_steps: int
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    max_grad_norm: float
    precision: str
    gradient_checkpointing: bool
    schedule: str = "linear"
    optimizer: str = "adamw"
    version: int = TRAINING_VERSION
    select: str = "last"
    select_every: int = 0
    base: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("schedule", self.schedule, SCHEDULES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("select", self.select, SELECTIONS),
            ("base", self.base, BASES),
        ):
            if value not in known:
                raise OtherVersion(
                    f"{name}={value!r}: this version trains with {', '.join(filter(None, known))} only: update smt-bench"
                )


@dataclass(frozen=True)
class EvalRef:
    """How it is judged; `tasks` maps each task to the content hash of the examples used.

    `repetition_penalty` is left out of the key where it is 1, `losses` (of what only the loss is measured, by name the content
    hash) where there are none: so it was before.
    """

    protocol: str
    version: int
    tasks: dict[str, str]
    beams: int
    max_new_tokens: int
    max_new_tokens_math: int
    repetition_penalty: float = 1.0
    losses: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that can change the outcome, what is recorded on the way (`probes`, see `training.probes`), and where rate and
    settings come from: the hash of the `tuning` that found them, "" for the recipe's.

    `parts`: keys of the runs whose changes are added to the base, which is then judged; such a run trains nothing itself, and
    says under `method` and `train` how its parts were trained.
    """

    model: ModelRef
    data: DataRef
    method: MethodRef
    train: TrainRef
    evaluation: EvalRef
    seed: int
    probes: tuple[str, ...] = ()
    tuning: str = ""
    parts: tuple[str, ...] = ()

    SECTIONS: ClassVar[tuple[str, ...]] = ("heldout", "evaluation", "seconds", "capacity")  # of a finished record

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; without what is as it was before it could be chosen."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        if self.method.half is None:
            del values["method"]["half"]
        if self.evaluation.repetition_penalty == 1:
            del values["evaluation"]["repetition_penalty"]
        if not self.evaluation.losses:
            del values["evaluation"]["losses"]
        if (self.data.tune, self.data.split_seed) == (0, 0):
            del values["data"]["tune"], values["data"]["split_seed"]
        if not self.data.varies:
            del values["data"]["varies"]
        for name in ("only", "aside", "divided"):
            if not values["data"][name]:
                del values["data"][name]
        if (self.train.select, self.train.select_every) == ("last", 0):
            del values["train"]["select"], values["train"]["select_every"]
        if not self.train.base:
            del values["train"]["base"]
        for name in ("probes", "tuning", "parts"):
            if not values[name]:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Run:
        """The inverse of `to_dict`."""
        train = dict(values["train"], betas=tuple(values["train"]["betas"]))
        return cls(
            ModelRef(**values["model"]),
            DataRef(**values["data"]),
            MethodRef(**values["method"]),
            TrainRef(**train),
            EvalRef(**values["evaluation"]),
            values["seed"],
            tuple(values.get("probes", ())),
            values.get("tuning", ""),
            tuple(values.get("parts", ())),
        )

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        return digest(nameless(self.to_dict()))

    @cached_property
    def setting(self) -> str:
        """Hash of what a table holds fixed: everything but method, seed, the method's learning rate and where that is from."""
        values = seedless(nameless(self.to_dict()))
        del values["method"]
        values.pop("tuning", None)
        for name in ("lr", "weight_decay"):
            del values["train"][name]
        return digest(values)

    def without_training(self) -> Run:
        """The same question for a method that trains nothing: rate and seed cannot matter, so that it runs once.

        Once for each data set, where these vary with the seed.
        """
        return replace(self, train=replace(self.train, lr=0.0), seed=self.seed if self.data.varies else 0, tuning="")


@dataclass(frozen=True)
class Measurement:
    """A question that no training run answers: time, memory, kernels. The experiment's `measure` answers it.

    Attributes:
        kind: name of the experiment.
        version: of its `measure`; bumped when the same settings can give other numbers.
        model: which architecture; `weights` is "random" (of a local folder "random, local") where only sizes matter.
        settings: all choices, as plain JSON.
        machine: hardware and threads, since the answer is about them; `ANY_MACHINE` where it is about weights and data.
        seed: of random weights and inputs.
    """

    kind: str
    version: int
    model: ModelRef
    settings: dict[str, Any]
    machine: str
    seed: int

    SECTIONS: ClassVar[tuple[str, ...]] = ("result",)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Measurement:
        """The inverse of `to_dict`."""
        return cls(**{**values, "model": ModelRef(**values["model"])})

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of the canonical JSON."""
        return digest(nameless(self.to_dict()))

    @cached_property
    def setting(self) -> str:
        """Hash of everything but the seed."""
        values = nameless(self.to_dict())
        del values["seed"]
        return digest(values)


Question = Run | Measurement
ANY_MACHINE = "any"
LOCAL = ("local", "random, local")  # what `ModelRef.weights` says of a local folder


def question(values: dict[str, Any]) -> Question:
    """A run or a measurement from a record's `run`."""
    return Measurement.from_dict(values) if "kind" in values else Run.from_dict(values)


def nameless(asked: dict[str, Any]) -> dict[str, Any]:
    """A question without the name of a local folder: the revision says what it holds, whatever it is called."""
    model = asked["model"]
    return {**asked, "model": {**model, "name": ""}} if model["weights"] in LOCAL else asked


def seedless(asked: dict[str, Any]) -> dict[str, Any]:
    """A question without its seed, and without the data where these vary with it."""
    values = {name: value for name, value in asked.items() if name != "seed"}
    if values["data"].get("varies"):
        content = ("train", "train_sha256", "heldout", "heldout_seed", "tune", "split_seed", "aside", "divided")
        looked_at = {"divided": "looked at"} if "aside" in values["data"] and "divided" not in values["data"] else {}
        values["data"] = {name: value for name, value in values["data"].items() if name not in content} | looked_at
        values["evaluation"] = {**values["evaluation"], "tasks": dict.fromkeys(values["evaluation"]["tasks"], "")}
    return values


def digest(values: Any) -> str:
    """First 16 hex digits of the SHA-256 of canonical JSON (sorted keys, no spaces, no NaN)."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
