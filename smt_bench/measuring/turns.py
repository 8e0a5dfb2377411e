"""Training steps of several methods, taken in turns and timed part by part.

Timing one method after the other measures the machine's mood as much as the methods. Here every round takes one step of
each, in a rotating order, in one process, on one batch of random tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from smt_bench.data.batches import Batch
from smt_bench.machine.memory import exhausted, release
from smt_bench.measuring.contestant import Contestant, Seconds
from smt_bench.methods.base import OptimizerSettings
from smt_bench.records.outcome import first_line, portable
from smt_bench.records.rows import Rows


class Score:
    """What one contestant has shown; all of it in plain JSON values, so that it can be kept (`to_dict`).

    Attributes:
        message: why it ended early; None where it did not.
        seconds: per phase, of every timed step.
        numbers: of these steps, over all that it took: a method may do more in some.
        flops: of a step's forward and backward pass.
        selection: seconds of the selection; None where there was none.
        described: see `Contestant`.
        visits: how often it was at its turn.
        taken: steps, timed or not.
    """

    def __init__(self, kept: dict[str, Any] | None = None) -> None:
        kept = kept or {}
        self.message: str | None = kept.get("message")
        self.seconds: list[Seconds] = kept.get("seconds", [])
        self.numbers: list[int] = kept.get("numbers", [])
        self.flops: dict[str, int] | None = kept.get("flops")
        self.selection: float | None = kept.get("selection")
        self.described: dict[str, Any] | None = kept.get("described")
        self.visits: int = kept.get("visits", 0)
        self.taken: int = kept.get("taken", 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    batch: Batch,
    settings: OptimizerSettings,
    checkpointing: bool,
    resident: bool,
    on_step: Callable[[int, int, str], None],
    rows: Rows | None = None,
) -> dict[str, Score]:
    """Steps of all contestants in a rotating order. One that runs out of memory is out, the others go on.

    Args:
        contestants: who competes.
        rounds: timed steps of each.
        batch: the same for all.
        settings: of the optimizers.
        checkpointing: recompute activations.
        resident: whether all models fit into memory together; else each is built anew for every third of its rounds.
        on_step: called with (steps done, steps in all, name).
        rows: what an earlier process has kept of this; every visit is added.

    Returns:
        What each has shown.
    """
    rows = rows or Rows()
    scores = {c.name: Score(rows.get(c.name)) for c in contestants}
    visits = rounds if resident else min(3, rounds)
    total = rounds * len(contestants)
    opened: set[str] = set()

    def guarded(contestant: Contestant, work: Callable[[], None]) -> None:
        """Does a contestant's work, unless it is out; lack of memory puts it out."""
        score = scores[contestant.name]
        if score.message is not None:
            return
        try:
            work()
        except Exception as error:
            if not exhausted(error):
                raise
            score.message = portable(first_line(error))
            release(error)
        if score.message is not None:
            opened.discard(contestant.name)
            contestant.close(describe=False)  # its row is not kept: another process may find more memory

    def ready(contestant: Contestant) -> None:
        score = scores[contestant.name]
        contestant.number = score.taken
        contestant.open(batch, settings, checkpointing)
        # Not timed: the first step allocates the optimizer's state and picks kernels.
        flops = contestant.count()
        score.flops = score.flops or flops
        score.selection = contestant.seconds if score.selection is None else score.selection
        opened.add(contestant.name)

    def visit(contestant: Contestant, number: int) -> None:
        score = scores[contestant.name]
        if score.visits > number:
            return
        if contestant.name not in opened:
            ready(contestant)
        for _ in range((rounds * (number + 1)) // visits - (rounds * number) // visits):
            score.seconds.append(contestant.step())
            score.numbers.append(contestant.number)
            on_step(sum(len(s.seconds) for s in scores.values()), total, contestant.name)
        score.visits, score.taken = number + 1, contestant.number
        if not resident or number == visits - 1:
            leave(contestant)

    def leave(contestant: Contestant) -> None:
        contestant.close()
        opened.discard(contestant.name)
        scores[contestant.name].described = contestant.described

    if resident:
        for contestant in contestants:
            if scores[contestant.name].visits < visits:
                guarded(contestant, lambda contestant=contestant: ready(contestant))  # type: ignore[misc]
    for number in range(visits):
        shift = number % len(contestants) if resident else 0
        for contestant in (*contestants[shift:], *contestants[:shift]):
            before = scores[contestant.name].visits
            guarded(contestant, lambda c=contestant, n=number: visit(c, n))  # type: ignore[misc]
            if not resident and scores[contestant.name].visits > before:
                rows.put({contestant.name: scores[contestant.name].to_dict()})
        if resident:
            rows.put({name: score.to_dict() for name, score in scores.items() if score.message is None})
    return scores
