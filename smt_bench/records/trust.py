"""Whether a record can be believed: read from bytes, or refused with the reason.

Nothing that can be derived is taken on trust: what is right and how many are, rates and errors follow from the gold answers and
the predictions, the held-out number from the log-likelihoods, the key from the question. What cannot be derived (the answers
themselves) is covered by a seal, the hash of all the rest, in records since schema 2.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from operator import eq
from typing import Any

import orjson

from smt_bench.records.runs import Measurement, OtherVersion, Run, digest, question
from smt_bench.records.shapes import RECORD, Unknown, mismatch, question_shape

SCHEMA = 3
STATUSES = ("done", "diverged", "out_of_memory", "failed")
Record = dict[str, Any]
# From schema n to n + 1. 1 to 2: nothing but the seal, which only files have. 2 to 3: examples say what they go back to
# (`cluster`); of older ones `evidence.clusters` finds it where the data are at hand, since no data stand below this package.
UPGRADES: dict[int, Callable[[Record], Record]] = {
    1: lambda record: {**record, "schema": 2},
    2: lambda record: {**record, "schema": 3},
}

TOLERANCE = 1e-3  # two numbers this close are the same answer, as in `data.tasks`, which stands beside this package
ROUNDED = 1e-6  # log-likelihoods are recorded with six digits, the mean over them with all
EXACT = 1e-9
_SEAL = b',\n "sha256": "'  # what stands between the hashed text and the hash
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
# `orjson` is four times as fast as `json`, but turns whole numbers beyond 64 bits into others and goes as deep as 1024: what may
# hold either is left to `json`. A number begins after one of these, and only one of 19 digits or more can be so large.
_DIGITS = bytes.maketrans(b"0123456789 \t\r\n[:,-", b"0" * 10 + b" " * 8)
_LONG = b" " + b"0" * 19
_BRACKETS = 500


class Damaged(ValueError):
    """Not what was written, or never a record."""


class Newer(ValueError):
    """Written by a newer version of smt-bench."""


def sealed(record: Record) -> str:
    """A record as a file's text, with its seal."""
    body = json.dumps(record, indent=1, allow_nan=False)
    return f'{body[:-2]}{_SEAL.decode()}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'


def examined(content: bytes, key: str) -> Record:
    """The record in a file's content, upgraded to the current schema and without its seal.

    Args:
        content: of the file.
        key: that its name says.

    Raises:
        Damaged: it cannot be believed; why.
        Newer: it is for another version to read; why.
    """
    try:
        return _examined(content, key)
    except Unknown as error:
        raise Newer(f"it holds {error}, which this version does not know: update smt-bench") from None
    except (Damaged, Newer):
        raise
    except OtherVersion as error:
        raise Newer(str(error)) from None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Damaged(f"it is not a complete record ({type(error).__name__})") from None


def _examined(content: bytes, key: str) -> Record:
    record: Any = _parsed(content)
    if type(record) is not dict or type(record.get("schema")) is not int or record["schema"] < 1:
        raise Damaged("it is not a complete record")
    if record["schema"] > SCHEMA:
        raise Newer(f"it has schema {record['schema']}, this version reads up to {SCHEMA}: update smt-bench")
    if record["schema"] > 1:
        _check_seal(content, record)
    while record["schema"] < SCHEMA:
        record = UPGRADES[record["schema"]](record)
    check(record, key)
    upgraded: Record = record
    return upgraded


def _parsed(content: bytes) -> Any:
    if content.count(b"[") + content.count(b"{") <= _BRACKETS and _LONG not in content.translate(_DIGITS):
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            pass  # the reason is `json`'s to tell
    return _slowly(content)


def _slowly(content: bytes) -> Any:
    def refuse(name: str) -> None:
        raise Damaged(f"it holds {name}")

    try:
        text = content.decode()
        record = json.loads(text, parse_constant=refuse)
        if _SURROGATE.search(content):
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise Damaged("it is not text") from None
    except UnicodeEncodeError:
        raise Damaged("it holds half a character") from None
    except Damaged:
        raise
    except RecursionError:
        raise Damaged("it is nested too deeply") from None
    except ValueError as error:
        broken = isinstance(error, json.JSONDecodeError)
        raise Damaged("it is not complete JSON" if broken else "it holds a number that is none") from None
    return record


def _check_seal(content: bytes, record: Record) -> None:
    """Takes the seal off.

    Raises:
        Damaged: something was changed after it.
    """
    seal = record.pop("sha256", None)
    if seal is None:
        raise Damaged("its seal (sha256) is missing")
    end = content.rfind(_SEAL)
    tail = f'{seal}"\n}}\n'.encode()
    if content[end + len(_SEAL) :] == tail and hashlib.sha256(content[:end] + b"\n}").hexdigest() == seal:
        return
    # White space and the ends of lines may have changed on the way.
    if hashlib.sha256(json.dumps(record, indent=1).encode()).hexdigest() != seal:
        raise Damaged("it was changed after it was written: its seal (sha256) does not match")


def check(record: Record, key: str) -> None:
    """Looks whether a record of this schema holds what it must, and whether its parts agree.

    Raises:
        Damaged: not so; why.
        Unknown: it holds what this version does not know.
    """
    wrong = mismatch(record, RECORD) or mismatch(record["run"], question_shape("kind" in record["run"]), "run")
    if wrong:
        raise Damaged(wrong)
    asked = record["run"]
    if record["key"] != key or (digest(asked) != key and question(asked).key != key):  # the latter puts defaults in
        raise Damaged("its content does not match its key")
    if record["status"] not in STATUSES:
        raise Damaged(f"status {record['status']!r} is unknown")
    sections = Measurement.SECTIONS if "kind" in asked else Run.SECTIONS
    for part in sections if record["status"] == "done" else ():
        if part not in record:
            raise Damaged(f"{part} is missing")
    if "capacity" in record:
        c = record["capacity"]
        _agree("capacity.fraction", c["fraction"], c["trainable"] / c["total"] if c["total"] else 0.0)
    if "heldout" in record:
        _check_heldout(record["heldout"], asked["data"]["heldout"], asked["data"].get("tune", 0))
    if record["status"] == "done" and "kind" not in asked:
        wanted = asked["evaluation"].get("losses", {})
        if record.get("losses", {}).keys() != wanted.keys():
            raise Damaged(f"losses holds {_names(record.get('losses', {}))}, asked were {_names(wanted)}")
    for name, found in record.get("losses", {}).items():
        _check_losses(f"losses.{name}", found, len(found["examples"]["loglik"]))
    if "selection" in record:
        _check_selection(record["selection"])
    if "evaluation" in record:
        tasks = asked["evaluation"]["tasks"]
        if record["evaluation"].keys() != tasks.keys():
            raise Damaged(f"evaluation holds {_names(record['evaluation'])}, asked were {_names(tasks)}")
        for task, result in record["evaluation"].items():
            _check_task(task, result)


def _check_task(task: str, result: dict[str, Any]) -> None:
    columns, n = result["examples"], result["n"]
    _check_clusters(f"evaluation.{task}", columns.get("cluster"))
    if n < 1 or any(len(column) != n for column in columns.values()):
        raise Damaged(f"evaluation.{task}: columns of other lengths than n = {n}")
    worth = columns.get("score")  # of answers that are more or less right
    if worth is not None and not all(0 <= w <= 1 for w in worth):
        raise Damaged(f"evaluation.{task}: a score is not between 0 and 1")
    right = _same(columns["prediction"], columns["gold"]) if worth is None else [w == 1 for w in worth]
    if columns["correct"] != right:  # 1 is True
        raise Damaged(f"evaluation.{task}: correct is not what gold and prediction say")
    parsed = n - columns["prediction"].count(None)
    if sum(columns["parsed"]) != parsed or not {0, 1}.issuperset(columns["parsed"]):
        raise Damaged(f"evaluation.{task}: parsed is not what the predictions say")
    accuracy = sum(right if worth is None else worth) / n
    variance = accuracy * (1 - accuracy) if worth is None else sum((w - accuracy) ** 2 for w in worth) / n
    _agree(f"evaluation.{task}.accuracy", result["accuracy"], accuracy)
    _agree(f"evaluation.{task}.stderr", result["stderr"], math.sqrt(variance / n))
    _agree(f"evaluation.{task}.format_failures", result["format_failures"], n - parsed)
    _agree(f"evaluation.{task}.format_failure_rate", result["format_failure_rate"], (n - parsed) / n)


def _check_clusters(where: str, clusters: Sequence[int] | None) -> None:
    """Sources are numbered from 0, none left out."""
    numbers = set(clusters or ())
    if numbers != set(range(len(numbers))):
        raise Damaged(f"{where}: cluster numbers no sources")


def _same(predictions: Sequence[Any], golds: Sequence[Any]) -> Sequence[bool]:
    """Which predictions are right."""
    if str in map(type, golds):
        return list(map(eq, predictions, golds))
    return [p is not None and type(p) is not str and abs(p - g) <= TOLERANCE for p, g in zip(predictions, golds)]


def _check_heldout(heldout: dict[str, Any], count: int, tune: int) -> None:
    parts = heldout["examples"].get("tune", [])
    if len(parts) != (count if tune else 0) or sum(parts) != tune or not {0, 1}.issuperset(parts):
        raise Damaged(f"heldout: its parts are not the {tune} of {count} examples that were asked for")
    _check_losses("heldout", heldout, count)


def _check_losses(where: str, found: dict[str, Any], count: int) -> None:
    """Log-likelihoods of responses or texts, and their mean."""
    logliks, tokens = found["examples"]["loglik"], found["examples"]["tokens"]
    if not len(logliks) == len(tokens) == count:
        raise Damaged(f"{where}: {len(logliks)} log-likelihoods and {len(tokens)} counts of {count} examples")
    clusters = found["examples"].get("cluster")
    _check_clusters(where, clusters)
    if clusters is not None and len(clusters) != count:
        raise Damaged(f"{where}: {len(clusters)} sources of {count} examples")
    scored = [loglik for loglik, length in zip(logliks, tokens) if length]
    if min(tokens, default=0) < 0 or (scored and None in scored):
        raise Damaged(f"{where}: a response without log-likelihood")
    nll = -sum(scored) / sum(tokens) if scored else None  # not by `evaluation.heldout`: what it said is checked here
    if (nll is None) != (found["nll"] is None):
        raise Damaged(f"{where}.nll is not what the log-likelihoods say")
    if nll is not None:
        _agree(f"{where}.nll", found["nll"], nll, ROUNDED)


def _check_selection(selection: dict[str, Any]) -> None:
    steps, losses = selection["steps"], selection["nll"]
    if len(steps) != len(losses) or not steps:
        raise Damaged(f"selection: {len(steps)} steps with {len(losses)} losses")
    known = [(loss, step) for loss, step in zip(losses, steps) if loss is not None]
    if selection["kept"] not in steps or (
        known and selection["kept"] not in (s for n, s in known if n == min(known)[0])
    ):
        raise Damaged(f"selection.kept is {selection['kept']}, which has not the least loss")


def _agree(what: str, said: float, derived: float, tolerance: float = EXACT) -> None:
    if not abs(said - derived) <= tolerance * max(1.0, abs(derived)):
        raise Damaged(f"{what} is {said:g}, its parts say {derived:g}")


def _names(values: dict[str, Any]) -> str:
    return ", ".join(values) or "nothing"
