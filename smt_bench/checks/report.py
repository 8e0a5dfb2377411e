"""What checks found: written as it comes, printed at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smt_bench.machine import facts, remembered
from smt_bench.machine.files import write_text
from smt_bench.machine.memory import exhausted, release
from smt_bench.records.outcome import first_line, portable
from smt_bench.report.table import Table

VERDICTS = ("pass", "FAIL", "skipped", "noted")  # noted: a number without a right or wrong


@dataclass(frozen=True)
class Finding:
    """One check.

    Attributes:
        part: of the checks.
        what: was looked at.
        verdict: one of `VERDICTS`.
        says: numbers and reasons, in words.
        numbers: plain JSON values.
    """

    part: str
    what: str
    verdict: str
    says: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS, self.verdict


class Findings:
    """All of one command. What the same command found before it was interrupted, here and by this code, is kept.

    Args:
        path: of the JSON file, written anew with every finding.
        device: what is checked, in words.
        asked: what was asked for.
        say: told of every finding.
        seconds: after which no new long piece of work begins.
    """

    def __init__(
        self, path: Path, device: str, asked: dict[str, Any], say: Callable[[str], None], seconds: float
    ) -> None:
        self.path, self.say, self.seconds = path, say, seconds
        self.found: list[Finding] = []
        self._begin = time.monotonic()
        self._head: dict[str, Any] = {
            "device": device,
            "asked": asked,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": facts.describe() | facts.numerics(),
            "code": remembered.code(),
            "ended": [],
        }
        self._before = self._unfinished()
        self._write()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self._begin)

    @property
    def failed(self) -> list[Finding]:
        """What is wrong."""
        return [f for f in self.found if f.verdict == "FAIL"]

    def add(self, part: str, what: str, verdict: str, says: str, **numbers: Any) -> None:
        """One more."""
        self.found.append(Finding(part, what, verdict, says, numbers))
        self._write()
        self.say(f"{time.monotonic() - self._begin:5.0f} s  {verdict:8}{part}: {what}: {says}")

    def had(self, part: str, case: str | None = None) -> bool:
        """Takes over what an interrupted command found of a part that had ended, or of one case of any; False: nothing.

        Args:
            part: of the checks.
            case: as in a finding's numbers; what failed or was skipped is looked at again.
        """
        if case is None:
            old = [f for f in self._before["findings"] if f.part == part and part in self._before["ended"]]
        else:
            of_case = [f for f in self._before["findings"] if f.part == part and f.numbers.get("case") == case]
            old = [f for f in of_case if f.verdict in ("pass", "noted")]
        if old:
            self.found += old
            self._write()
            self.say(f"{part}{'' if case is None else ': ' + case}: kept from the interrupted command")
        return bool(old)

    def ended(self, part: str) -> None:
        """The part is done."""
        self._head["ended"].append(part)
        self._write()

    @contextmanager
    def guarded(self, part: str, what: str, may_exhaust: bool = False) -> Iterator[None]:
        """An error inside is a finding, and the next check goes on.

        Args:
            part: of the checks.
            what: is looked at.
            may_exhaust: too little memory is no fault.
        """
        lost: BaseException | None = None
        try:
            yield
        except Exception as error:  # whatever it is: that is what is looked for
            lost = error
        if lost is not None:
            verdict = "skipped" if may_exhaust and exhausted(lost) else "FAIL"
            self.add(part, what, verdict, portable(first_line(lost)))
        release(lost)

    def end(self) -> None:
        """The last word in the file."""
        self._head["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._write()

    def _unfinished(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"ended": [], "findings": []}
        try:
            old = json.loads(self.path.read_text(encoding="utf-8"))
            same = all(
                old[k] == json.loads(json.dumps(self._head[k])) for k in ("device", "asked", "environment", "code")
            )
            if "finished" in old or not same:
                return nothing
            return {"ended": list(old["ended"]), "findings": [Finding(**f) for f in old["findings"]]}
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
            return nothing

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**self._head, "failed": len(self.failed), "findings": [asdict(f) for f in self.found]}

    def table(self) -> Table:
        """To read; what is wrong stands first."""
        order = sorted(self.found, key=lambda f: f.verdict != "FAIL")
        rows = [[f.part, f.what, f.verdict, f.says] for f in order]
        counts = {v: sum(f.verdict == v for f in self.found) for v in VERDICTS}
        notes = [", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)]
        return Table(f"Check of {self._head['device']}", ["part", "what", "verdict", "found"], rows, notes)

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.to_dict(), indent=1) + "\n")
