"""Which of a family's training mixtures, and of their benchmarks, a request covers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from smt_bench.data.family import Family, Mixture
from smt_bench.data.loading import mixture_file
from smt_bench.data.reading import find_file
from smt_bench.data.tasks import find_task
from smt_bench.questions.request import Request


class Mixtures:
    """The mixtures of a request; none where its family has one training set.

    Args:
        family: of the request.
        request: what was asked for.
        embedded: whether the model's data are, where no folder is named.
        say: one-line messages.

    Raises:
        ValueError: no benchmark is left of any.
    """

    def __init__(self, family: Family, request: Request, embedded: bool, say: Callable[[str], Any]) -> None:
        self._request, self._say = request, say
        self._here: dict[str, tuple[str, ...]] = {}
        self._unjudged: list[str] = []
        offered = family.offered(embedded and request.data is None) if family.mixtures else ()
        for one in offered:
            if tasks := self._asked(one):
                self._here[one.name] = tasks
            else:
                self._unjudged.append(one.name)
        if offered and not self._here:
            raise ValueError(
                f"--tasks {','.join(request.tasks)}: no mixture of {family.name} here is judged by it: choose from "
                f"{', '.join(dict.fromkeys(t for one in offered for t in one.tasks))}"
            )
        self._family, self._said = family, False

    @property
    def names(self) -> list[str]:
        """Of those that are here, in order."""
        return list(self._here)

    @property
    def first(self) -> str:
        """The first of them; "" without any."""
        return next(iter(self._here), "")

    def tasks_of(self, mixture: str) -> tuple[str, ...]:
        """The benchmarks that it is judged by here."""
        return self._here[mixture]

    def look(self, source: str | None) -> None:
        """Leaves out, and names, what a data folder does not hold, and the code tasks that are not allowed.

        Args:
            source: the folder; None: embedded, where all is there.

        Raises:
            ValueError: the folder holds no mixture, or no benchmark of those that it holds.
        """
        if not self._here or self._said:
            return
        self._said = True
        if source is not None and not Path(source).is_dir():
            return  # whoever reads it says what is wrong
        for name in self._without_code:
            self._say(f"note: {name} left out: judging it runs programs that the model writes (--allow-code)")
        for name in [] if self._request.tasks else self._unjudged:
            self._say(f"note: mixture {name} left out: it is judged by nothing else")
        if source is None:
            return
        root = Path(source)
        for name, tasks in list(self._here.items()):
            there = tuple(task for task in tasks if find_file(root / "dataset" / task, "test"))
            if mixture_file(root, name) is None:
                why = f"no ft-training_set/{name} in {source}"
            elif not there:
                why = f"no test file of {', '.join(tasks)} in {source}"
            else:
                lost = [task for task in tasks if task not in there]
                if lost and self._request.tasks:
                    raise ValueError(
                        f"data folder {source} has no dataset/{lost[0]}/test.json: expected the LLM-Adapters layout"
                    )
                for task in lost:
                    self._say(f"note: no test file for {task}: left out of {name}")
                self._here[name] = there
                continue
            self._say(f"note: mixture {name} left out: {why}")
            del self._here[name]
        if not self._here:
            mixtures = ", ".join(f"ft-training_set/{m.name}" for m in self._family.mixtures)
            raise ValueError(
                f"data folder {source} has no mixture with a benchmark: expected {mixtures} (.json, .jsonl, either .gz, or "
                ".parquet) and dataset/<benchmark>/test.json; `fetch instructions` gets them"
            )

    def _asked(self, mixture: Mixture) -> tuple[str, ...]:
        r = self._request
        tasks = tuple(task for task in mixture.tasks if not r.tasks or task in r.tasks)
        return tuple(task for task in tasks if r.allow_code or not find_task(task).runs_code)

    @property
    def _without_code(self) -> list[str]:
        """Code tasks that would be judged by if that were allowed."""
        r = self._request
        known = [task.name for task in self._family.all_tasks if task.runs_code]
        mine = {
            t for name in [*self._here, *self._unjudged] if (one := self._family.mixture_of(name)) for t in one.tasks
        }
        return [] if r.allow_code or r.tasks else [name for name in known if name in mine]
