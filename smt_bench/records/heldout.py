"""The held-out examples of a record: all of them, those that choices are made by ("tune"), or those that are reported ("report").

Records from before there were two parts have one set that serves for both.
"""

from __future__ import annotations

from typing import Any, Literal

Part = Literal["tune", "report"]
Record = dict[str, Any]


def examples(record: Record, part: Part) -> tuple[list[float | None], list[int]]:
    """Log-likelihoods (nats) and response tokens of one part's examples, in order."""
    columns = record["heldout"]["examples"]
    logliks, tokens = list(columns["loglik"]), list(columns["tokens"])
    if "tune" not in columns:
        return logliks, tokens
    wanted = [bool(chosen) == (part == "tune") for chosen in columns["tune"]]
    return [v for v, own in zip(logliks, wanted) if own], [v for v, own in zip(tokens, wanted) if own]


def nll(record: Record, part: Part) -> float | None:
    """Negative log-likelihood per response token (nats) over one part; None where a record has no such number."""
    if record["status"] != "done" or (record.get("heldout") or {}).get("nll") is None:
        return None
    if "tune" not in record["heldout"]["examples"]:
        return float(record["heldout"]["nll"])
    logliks, tokens = examples(record, part)
    scored = [loglik for loglik, count in zip(logliks, tokens) if count]
    return -sum(v for v in scored if v is not None) / sum(tokens) if scored else None
