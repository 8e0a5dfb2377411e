"""A user's own data as a family of its own: as described (`own_described`), read and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smt_bench.data import chat, families
from smt_bench.data.example import Chat, Example
from smt_bench.data.family import KINDS, NO_TRAINING, Family, Found, Task
from smt_bench.data.general import pieces
from smt_bench.data.own_described import TEXT, UNSCORED, Own, TestSet, described
from smt_bench.data.own_files import HUB, records
from smt_bench.data.own_records import DESCRIPTION, example, is_chat
from smt_bench.data.prompts import TEMPLATE
from smt_bench.data.tasks import gold, said

RESERVED = ("tuning",)  # a folder of that name is beside those of families


def is_own(source: str) -> bool:
    """Whether `--data` names data of one's own, not a folder in the LLM-Adapters layout."""
    path = Path(source)
    try:
        if source.startswith(HUB) or path.is_file():
            return True
    except OSError:  # a name too long for any file
        return False
    layout = any((path / name).is_dir() for name in ("dataset", "ft-training_set"))
    mixtures = [f.mixture for f in families.all_families().values() if f.mixture]
    return path.is_dir() and not layout and not any((path / name).is_file() for name in mixtures)


def known_as(source: str) -> Family:
    """The family of one's own data, known in this process from here on.

    Args:
        source: as `--data` says it.

    Raises:
        ValueError: no data, a description that cannot be, or a name that is taken.
    """
    own = described(source)
    tasks = tuple(_task(test) for test in own.tests if test.kind not in UNSCORED)
    if own.name in RESERVED:
        raise ValueError(f"--data {source}: {own.name} is no name for data: choose another in {DESCRIPTION}")
    family = Family(own.name, own.title, tasks, template=own.template or _template(own), own=_Reader(own))
    families.add_own(family)
    return family


def _task(test: TestSet) -> Task:
    code = test.kind == "code"
    return Task(
        test.name, test.options, test.title, rationale=test.rationale or code, lead=test.lead, named=False,
        whole=test.options is not None, kind=test.kind if test.kind in KINDS else KINDS[0],
        stops=families.CODE_ENDS if code else (),
    )  # fmt: skip


def _template(own: Own) -> str:
    """By the first record of every file that is not plain text."""
    sources = [(source, own.fields) for source in own.train] + [(t.file, t.fields) for t in own.tests if t.kind != TEXT]
    first = [(next(records(source, own.folder), None), columns) for source, columns in sources]
    return chat.NAME if any(place and is_chat(place[1], columns) for place, columns in first) else TEMPLATE


@dataclass(frozen=True)
class _Reader:
    """Reads what is described; equal where the description is."""

    own: Own

    def __call__(self) -> Found:
        return read(self.own)


def _led(own: Own, test: TestSet, train: list[Example]) -> None:
    """Refuses a lead that no training response has, and none where they have one: nobody has learnt to answer so."""
    if test.options and not test.lead and not test.rationale and train:
        before = Counter(lead for one in train if (lead := _before(one, test.options)) is not None)
        lead, count = before.most_common(1)[0] if before else ("", 0)
        if lead and count > len(train) / 2:
            raise ValueError(
                f"{own.folder / DESCRIPTION}: [tests.{test.name}]: {count:,} of {len(train):,} training responses have "
                f"{lead[-60:]!r} before the option: say lead = {lead[-60:]!r}"
            )
    if test.lead and train and not any(one.output.strip().startswith(test.lead) for one in train):
        option = (test.options or ("",))[0]
        raise ValueError(
            f"{own.folder / DESCRIPTION}: [tests.{test.name}]: lead = {test.lead!r}: none of {len(train):,} training responses "
            f"begins with it: write it there ({f'{test.lead} {option}'!r}), or leave lead out"
        )


def _before(one: Example, options: Sequence[str]) -> str | None:
    """What stands before the option at the end of a response, of a conversation its last one; None where none ends it."""
    response = (one.turns[-1].content if isinstance(one, Chat) else one.output).strip().rstrip(".!")
    named = said(response, options)
    return response[: named[-1][0]].strip() if named and response.endswith(named[-1][1]) else None


def _bare(one: Example, lead: str) -> Example:
    """With the answer alone, where a test file has the whole response, as the training file does."""
    answer = one.answer.strip()
    return replace(one, answer=answer.removeprefix(lead).strip()) if lead and answer.startswith(lead) else one


def _answered_in(values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The column that an answer was read from, quoted."""
    name = next((n for n in ("answer", "output") if values.get(columns.get(n, n))), "answer")
    return repr(columns.get(name, name))


def read(own: Own) -> Found:
    """Every record that is described.

    Raises:
        ValueError: what is wrong with which record of which file.
    """
    train, empty = list[Example](), 0
    for source in own.train:
        found = [example(*place, own.fields) for place in records(source, own.folder)]
        kept = [one for one in found if one.output.strip()]
        if not kept:
            empty_of = "the assistant says nothing" if any(isinstance(x, Chat) for x in found) else "'output' is empty"
            what = f"{empty_of} in all {len(found):,} records" if found else "no records"
            raise ValueError(f"{own.folder / source}: {what}: nothing to train on")
        train += kept
        empty += len(found) - len(kept)
    for test in own.tests:
        _led(own, test, train)
    tests, losses = dict[str, list[Example]](), dict[str, list[Example]]()
    for test in own.tests:
        if test.kind == TEXT:
            losses[test.name] = pieces(test.file, own.folder)
            continue
        places = list(records(test.file, own.folder))
        if not places:
            raise ValueError(f"{own.folder / test.file}: no records: leave [tests.{test.name}] out, or fill it")
        scored = test.kind not in UNSCORED
        examples = [example(*place, test.fields, test.kind if scored else None) for place in places]
        if scored:
            examples = [_bare(one, test.lead) for one in examples]
            for (where, values), one in zip(places, examples):
                try:
                    gold(families.all_tasks()[test.name], one)
                except ValueError as error:
                    raise ValueError(f"{where}: {_answered_in(values, test.fields)}: {error}") from None
        elif lacking := next((where for (where, _), e in zip(places, examples) if not e.output.strip()), None):
            raise ValueError(f"{lacking}: 'output' is empty: there is no response whose loss could be measured")
        (tests if scored else losses)[test.name] = examples
    origin = "+".join(source.removeprefix(HUB) for source in own.train) or NO_TRAINING
    return Found(origin, train, empty, tests, losses)
