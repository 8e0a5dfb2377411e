"""What the commands share: options, and where users are told something; `cli.values` reads the options' values."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from smt_bench.machine.borders import terminal

Results = Annotated[Path, typer.Option("--results", help="Folder for records, tables and figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Model = Annotated[str, typer.Option("--model", help="Registered model, Hugging Face id or local folder.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Whose choices: paper (the text's), paper-code (the released scripts'), ..., or FILE.toml; default: the model's.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32 or bf16 (mixed, under autocast); default: see `list models`; other models fp32 up to 10^9 parameters.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", help="nf4: of the frozen weights 4 bits, as in QLoRA; methods that train them are refused."),
]
Many = list[str] | None
Targets = Annotated[
    Many,
    typer.Option(
        "--targets",
        help="Layers, for methods that choose: q, k, v, o, gate, up, down, qkv, attention, mlp, all-linear, a name or pattern.",
    ),
]
Select = Annotated[
    str | None,
    typer.Option("--select", help="Weights that are judged: last, or best by the held-out examples to choose by."),
]
SelectEvery = Annotated[int | None, typer.Option("--select-every", help="Steps between two looks for the best.")]
# What is run: `run`, `tune`, `plan` and those that repeat.
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Your data: a file, hub:ORG/NAME:SPLIT, a folder with tasks.toml (docs/own.md) or in the LLM-Adapters layout.",
    ),
]
Methods = Annotated[Many, typer.Option("--methods", help="Methods, separated by commas; all: every one that can.")]
Tasks = Annotated[Many, typer.Option("--tasks", help="Test tasks, separated by commas; math tasks train on math.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps per run.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Test examples per task at most.")]
Preset = Annotated[
    str | None,
    typer.Option("--preset", help="smoke: one fraction, few steps; reference: the model's reference sweep."),
]
Protocol = Annotated[str | None, typer.Option("--protocol", help="likelihood or llm-adapters (generate and match).")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A method's setting, e.g. smt.block_size=64; repeatable.")
]
# How it is carried out: `sweep.carry_out.How`.
Jobs = Annotated[int, typer.Option("--jobs", help="Runs at the same time; GPUs or cores are shared out.")]
GpusPerRun = Annotated[
    int | None, typer.Option("--gpus-per-run", help="GPUs of each run; default: all, divided by --jobs.")
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", help="Processes of each run, data parallel; on a cluster one per GPU, else 1."),
]
Zero = Annotated[int, typer.Option("--zero", help="2 or 3: dense phases through DeepSpeed ZeRO.")]
Offload = Annotated[bool, typer.Option("--offload", help="Their optimizer state in main memory.")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="slurm: submit the runs as a job array and leave.")]
Partition = Annotated[str | None, typer.Option("--partition", help="Of the cluster.")]
TimeLimit = Annotated[str | None, typer.Option("--time", help="Of a job, HH:MM:SS; runs go on in the next.")]
Nodes = Annotated[int, typer.Option("--nodes", help="Nodes of each run, on a cluster.")]
Retry = Annotated[str | None, typer.Option("--retry", help="failed: do runs again that failed or ran out of memory.")]
CheckpointSteps = Annotated[
    int | None, typer.Option("--checkpoint-steps", help="Save the state of training every N steps.")
]
CheckpointMinutes = Annotated[float, typer.Option("--checkpoint-minutes", help="Save it at least that often.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the runs (of a search the first) and stop.")]
# The steps that are measured or planned: `run speed`, `run memory`, `plan`.
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Examples per step; default: the recipe's.")]
Length = Annotated[int | None, typer.Option("--length", help="Tokens per example; default: the recipe's cut-off.")]
Layers = Annotated[
    int | None, typer.Option("--layers", help="So many of the model's layers; tables say what all of them would take.")
]
Checkpointing = Annotated[
    bool | None,
    typer.Option("--checkpointing/--no-checkpointing", help="Recompute activations; default: the recipe's choice."),
]
OptimizerDtype = Annotated[
    str | None,
    typer.Option(
        "--optimizer-dtype", help="fp32: Adam in float32, with copies of bf16 weights; bf16: as the weights, no copies."
    ),
]

# Single choices in place of the recipe's: `run`, `tune`, `recipe`; see `questions.own_recipe`.
Rates = Annotated[
    Many, typer.Option("--lr", help="Peak learning rate, of all methods or of each: 1e-3, or smt=1e-3,lora=2e-3.")
]
Decays = Annotated[Many, typer.Option("--weight-decay", help="Of AdamW, of all methods or of each, as --lr.")]
MicroBatch = Annotated[int | None, typer.Option("--micro-batch", help="Examples per forward pass.")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Over the training set, in place of --steps.")]
Cutoff = Annotated[int | None, typer.Option("--cutoff", help="Tokens per training example at most.")]
Schedule = Annotated[
    str | None, typer.Option("--schedule", help="Of the learning rate: linear, linear-hf, cosine or constant.")
]
LrWarmup = Annotated[
    float | None,
    typer.Option("--lr-warmup", help="Warm-up of the rate: a number of steps, or a share of all (below 1)."),
]
Heldout = Annotated[
    float | None, typer.Option("--heldout", help="Training examples set aside, or below 1 a share of them.")
]
LimitHeldout = Annotated[
    int | None, typer.Option("--limit-heldout", help="Of these so many at most are looked at; none is trained on.")
]
# Told of the runs.
Track = Annotated[
    str | None, typer.Option("--track", help="tensorboard, wandb, trackio or mlflow: told of every run as it goes.")
]

Forgetting = Annotated[
    str | None,
    typer.Option(
        "--forgetting",
        help="General text, whose loss is measured too: a file, hub:ORG/NAME:SPLIT, or embedded (of tiny).",
    ),
]


AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Judge code tasks: run what the model writes, in processes with limits of time and memory."
    ),
]


def say(text: str) -> None:
    """One line on standard error: standard output is for results. Where nobody reads any more nothing is lost."""
    with contextlib.suppress(OSError):
        print(terminal(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Text on standard output, where results go."""
    print(terminal(text))
