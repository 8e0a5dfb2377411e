"""What one command does: an experiment, or several that share their runs, on one data family or on two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smt_bench.machine.fits import Machine
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.base import Capacity
from smt_bench.models import registry
from smt_bench.questions import presets, refusals
from smt_bench.questions.asked import recipe_name
from smt_bench.questions.experiment import Experiment, MeasuringExperiment, TrainingExperiment
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.questions.tuned import winners
from smt_bench.records.index import TUNING, folder
from smt_bench.records.runs import Question
from smt_bench.records.store import Store


@dataclass
class Leg:
    """One experiment on one data family.

    Attributes:
        experiment: trains or measures.
        planner: with the data opened, where the experiment looks at any.
        planned: its runs.
        place: where its tables go.
    """

    experiment: Experiment
    planner: Planner
    planned: list[tuple[Question, Capacity | None]]
    place: Path


def plan_parts(
    experiments: Sequence[Experiment],
    request: Request,
    here: Machine,
    store: Store,
    writes: bool,
    say: Callable[[str], None],
    spread: Spread = ALONE,
) -> list[Leg]:
    """Plans all parts before any run; data are read and weights located once per family.

    Where there are several parts, one that cannot be done here is named and left out.

    Args:
        experiments: that share the request.
        request: what was asked for; named tasks decide the family.
        here: this machine.
        store: where the results go.
        writes: whether the results folder has to be writable.
        say: one-line messages.
        spread: of each run over the machine.

    Raises:
        ValueError: what was asked for cannot work; with several parts, if none that needs data can be done.
    """
    planners: dict[str, Planner] = {}
    made: list[Leg] = []
    refused: list[tuple[str, ValueError]] = []
    units = [(e, family) for e in experiments for family in families_of(e, request, len(experiments) > 1)]
    if apart := [e.name for e in experiments if e.name not in {part.name for part, _ in units}]:
        say(f"note: not in the reference sweep{' on ' + request.family if request.settled else ''}: {', '.join(apart)}")
    for experiment, family in units:
        try:
            asked = asked_of(request, experiment, family)
            if family not in planners:
                planners[family] = Planner(asked, here, say, spread, shared=len(experiments) > 1)
            made.append(_plan(experiment, planners[family].at(asked.fractions_pct), store, writes))
        except ValueError as error:
            if len(units) == 1:
                raise
            refused.append((f"{experiment.name} ({family})", error))
    if refused and not any(part.experiment.needs_inputs for part in made):
        raise refused[0][1]
    for name, why in refused:
        say(f"note: {name} left out: {str(why).splitlines()[0]}")
    return made


def families_of(experiment: Experiment, request: Request, bundled: bool = False) -> Sequence[str]:
    """The data that an experiment is done on, unless it is said: of its own or, under a reference's design, of that sweep.

    Args:
        experiment: trains or measures.
        request: what was asked for.
        bundled: whether it is part of several; a sweep's bundle has what the sweep names alone.
    """
    usual = (request.family,) if request.settled else experiment.families
    if request.preset != presets.REFERENCE or not (bundled or _sweeps(experiment, request)):
        return usual
    named = presets.reference(recipe_name(request)).parts.get(experiment.name, {})
    if bundled:
        return [family for family in named if not request.settled or family == request.family]
    return usual if request.settled or not named else tuple(named)


def asked_of(request: Request, experiment: Experiment, family: str) -> Request:
    """What is asked for of one experiment on one data family: tasks and fractions that are not named are its reference's."""
    asked = replace(request, default_family=family)
    if request.preset != presets.REFERENCE or not _sweeps(experiment, request):
        return asked
    found = presets.reference(recipe_name(request))
    tasks = request.tasks or (() if request.settled else found.tasks.get(family, ()))
    fractions = request.fractions_pct or found.parts.get(experiment.name, {}).get(family, ())
    return replace(asked, tasks=tasks, fractions_pct=fractions)


def _sweeps(experiment: Experiment, request: Request) -> bool:
    """Whether a reference's data are this one's: it trains, and not on what comes with a model."""
    embedded = registry.find(request.model).embedded is not None and request.data is None
    return isinstance(experiment, TrainingExperiment) and not embedded


def _plan(experiment: Experiment, planner: Planner, store: Store, writes: bool) -> Leg:
    if not experiment.takes_steps:
        refusals.step_options(planner.request, planner.shared, isinstance(experiment, TrainingExperiment))
    if isinstance(experiment, MeasuringExperiment) and not (experiment.takes_steps or experiment.takes_base):
        refusals.base_option(planner.request, planner.shared)
    if isinstance(experiment, TrainingExperiment):
        refusals.evaluation_packages(experiment.name)
    names = experiment.method_names(planner)
    experiment.check_machine(planner, names)
    experiment.check(planner)
    refusals.idle_settings(planner.request, planner.shared, names)
    place = folder(store, experiment.name, planner.entry.name, planner.family.subfolder)
    if writes:
        store.check_writable(place)
    if not experiment.needs_inputs:
        refusals.data_options(planner.request, planner.shared or experiment.reads_data)
    elif not planner.opened:
        planner.open()
    if planner.request.tuned:
        take_winners(experiment, planner, store)
    return Leg(experiment, planner, list(experiment.runs(planner)), place)


def take_winners(experiment: Experiment, planner: Planner, store: Store) -> None:
    """Gives the planner what the latest tuning of the experiment found.

    Raises:
        ValueError: the experiment trains nothing or is one that tunes, or there is no such tuning.
    """
    name, model = experiment.name, planner.entry.name
    if not isinstance(experiment, TrainingExperiment) or experiment.tunes:
        raise ValueError(f"--tuned: {name} uses no rates that could be tuned: leave it out")
    planner.winners = {}
    names = [method for method in experiment.method_names(planner) if planner.trains(method)]
    if not names:
        raise ValueError("--tuned: no method that runs here trains anything: leave it out")
    cell = next(cell for cell in experiment.cells(planner) if cell.method in names)
    run, _ = planner.run(cell.method, cell.fraction, planner.seeds()[0], cell.lr, **cell.changes)
    place = folder(store, name, model, planner.family.subfolder) / TUNING
    planner.winners = winners(place, run, planner, names, f"python -m smt_bench tune {name} --model {model}")


def union(parts: Sequence[Leg]) -> list[tuple[Question, Capacity | None]]:
    """All runs, each once."""
    return list({run.key: (run, capacity) for part in parts for run, capacity in part.planned}.values())
