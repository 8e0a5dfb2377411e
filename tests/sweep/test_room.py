"""A record's space on the disk: there before the run starts, there when it ends."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folders
import pytest
from helpers import ROOT
from rich.console import Console

from smt_bench.machine.files import write_text
from smt_bench.records import files
from smt_bench.records.files import Room
from smt_bench.records.runs import question
from smt_bench.records.store import ROOM, Record, Store
from smt_bench.sweep.loop import sweep

REFERENCE = Store(ROOT / "results" / "reference")
RECORD = next(r for key in REFERENCE.keys()[:5] if (r := REFERENCE.read(key)) is not None)
RUN = question(RECORD["run"])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with folders.small_disk(tmp_path / "disk", "8m") as place:
        yield place


def fill_up(place: Path) -> None:
    with (place / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


def do(store: Store, perform: Any) -> dict[str, int]:
    return dict(sweep([RUN], store, perform, Console(file=io.StringIO())))


def test_a_disk_that_fills_up_while_a_run_trains_costs_no_record(disk: Path) -> None:
    def perform(*_: Any) -> Record:
        fill_up(disk)
        with pytest.raises(OSError, match="No space left"):
            write_text(disk / "another", "x" * 50_000)
        return RECORD

    store = Store(disk)
    assert do(store, perform) == {"done": 1}
    assert store.read(RUN.key) == RECORD
    assert [p.name for p in store.runs.iterdir()] == [f"{RUN.key}.json"]  # and nothing else is kept
    assert store.path(RUN.key).stat().st_blocks * 512 < 200_000


def test_without_room_nothing_is_trained_and_the_record_is_named(disk: Path) -> None:
    store = Store(disk)
    store.runs.mkdir()
    (disk / "filler").write_bytes(bytes(5 << 20))
    with pytest.raises(OSError) as refused:
        do(store, lambda *_: pytest.fail("trained"))
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(store.path(RUN.key)))
    assert list(store.runs.iterdir()) == []
    (disk / "filler").unlink()
    assert do(store, lambda *_: RECORD) == {"done": 1}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_room_where_the_file_system_cannot_reserve(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with Room(tmp_path / "a.json", ROOM) as room:
        (held,) = tmp_path.iterdir()
        assert held.stat().st_blocks * 512 >= ROOM
        room.fill("content")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": "content"}


def test_room_that_another_process_tidied_away(tmp_path: Path) -> None:
    with Room(tmp_path / "a.json", 100) as room:
        for held in tmp_path.iterdir():
            held.unlink()
        room.fill("content" * 100)  # more than was kept, too
    assert (tmp_path / "a.json").read_text() == "content" * 100
    with Room(tmp_path / "b.json", 100):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_every_error_of_the_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", refuse)
    for write in (lambda path: write_text(path, "x"), lambda path: Room(path, 10).fill("x")):
        with pytest.raises(OSError) as refused:
            write(tmp_path / "a.json")
        assert refused.value.filename == str(tmp_path / "a.json")
