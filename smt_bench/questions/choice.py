"""Which methods an experiment runs: those asked for, its own, or under `--methods all` those that can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from smt_bench import methods
from smt_bench.questions.request import ALL, Request


class MethodChoice(ABC):
    """The part of a planner that chooses methods.

    Attributes:
        request: what was asked for.
        shared: whether other experiments share it.
        say: one-line messages.
        left_out: what is not done of what was asked for, and why.
    """

    request: Request
    shared: bool
    say: Callable[[str], Any]
    left_out: dict[str, str]

    @abstractmethod
    def check_machine(self, names: Sequence[str]) -> None:
        """Refuses methods that this machine cannot hold.

        Raises:
            ValueError: one.
        """

    @abstractmethod
    def check_capacity(self, name: str, fraction: float | None, **changes: Any) -> None:
        """Refuses a capacity that the model cannot give.

        Raises:
            ValueError: it cannot.
        """

    @abstractmethod
    def stands(self, name: str) -> bool:
        """Whether a method that was not named can do with the base that was asked for; else it is left out."""

    @abstractmethod
    def trains(self, name: str) -> bool:
        """Whether a method trains anything."""

    def method_names(self, default: Sequence[str]) -> list[str]:
        """The methods asked for, else the default ones; of "all" those that can do it. Of both the others are named with reasons.

        Raises:
            ValueError: of all methods none can.
        """
        if ALL not in self.request.methods:
            usual = () if self.request.methods else filter(self.stands, default)
            return list(dict.fromkeys(self.request.methods or usual))
        for name, why in methods.REGISTRY.idle().items():
            self._leave_out(name, why)
        names = [name for name in methods.REGISTRY.names() if self._can(name)]
        if not names:
            raise ValueError(f"--methods {ALL}: none can do it: name one, which says why")
        return names

    def among(self, known: Sequence[str], why: str) -> list[str]:
        """As `method_names`, for an experiment about some methods alone.

        Args:
            known: those; all of them by default.
            why: no other method is in place, for the message.

        Raises:
            ValueError: another was asked for.
        """
        names = self.method_names(known)
        for name in names:
            if name not in known:
                raise ValueError(f"--methods {name}: {why}: leave it out")
        return names

    def trained(self, names: Sequence[str]) -> list[str]:
        """Of some methods those that train something, for an experiment that varies how; the others are named with the reason.

        Raises:
            ValueError: none does.
        """
        found = [name for name in names if self.trains(name)]
        if not found:
            raise ValueError(
                f"--methods {','.join(names)}: nothing is trained, and {self.request.experiment} is about what training does: "
                "name a method that trains"
            )
        for name in names:
            if name not in found:
                self._leave_out(name, f"it trains nothing, and {self.request.experiment} is about what training does")
        return found

    def takes(self, name: str, fraction: float | None, **changes: Any) -> bool:
        """Whether a cell is to be run: always where its method was named; under "all" where the model can give the fraction."""
        if ALL not in self.request.methods or name in self.request.methods:
            return True
        try:
            self.check_capacity(name, fraction, **changes)
        except ValueError as error:
            self._leave_out(name if fraction is None else f"{name} at {100 * fraction:g} %", str(error))
            return False
        return True

    def _can(self, name: str) -> bool:
        """Whether a method fits model and machine; named ones are for the usual checks to refuse."""
        try:
            methods.find(name)
            if name not in self.request.methods:
                self.check_machine([name])
        except ValueError as error:
            self._leave_out(name, str(error))
            return False
        return True

    def _leave_out(self, what: str, why: str) -> None:
        """Says so, once."""
        if what not in self.left_out:
            self.left_out[what] = why.splitlines()[0]
            self.say(f"note: {what} left out: {self.left_out[what]}")

    def only(self, name: str) -> list[str]:
        """The one method of an experiment that is about it.

        Raises:
            ValueError: others were asked for.
        """
        r = self.request
        others = [other for other in r.methods if other != name]
        if others and not self.shared:
            raise ValueError(f"--methods {','.join(others)}: {r.experiment} is about {name} alone: leave it out")
        return [name]
