"""Two adapters trained apart and added: the runs, and verdicts that follow the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import data_folder, model_folder
from helpers import Cli
from made_up import record
from papers import read

from smt_bench.data import loading
from smt_bench.evidence.verdicts import HOLDS, REFUTED
from smt_bench.experiments.accuracy.composition import claims, experiment, found
from smt_bench.records.runs import Run
from smt_bench.records.store import Record, Store

TASKS = ("boolq", "piqa", "social_i_qa", "hellaswag")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("composition")
    model_folder(root / "model")
    for task, answer in (("boolq", "true"), ("piqa", "solution1")):
        data_folder(root / "data", train=60, task=task)
        for name in ("train", "test"):
            file = root / "data" / "dataset" / task / f"{name}.json"
            file.write_text(file.read_text().replace("true", answer).replace(f"{name} ", f"{task} {name} "))
    return root


def test_a_sum_is_a_record_that_names_its_parts(cli: Cli, places: Path, tmp_path: Path) -> None:
    asked = (
        "run", "composition", "--model", str(places / "model"), "--data", str(places / "data"), "--preset", "smoke",
        "--steps", "3", "--fractions", "4", "--limit", "4", "--methods", "spiel", "--seeds", "0",
    )  # fmt: skip
    done = cli(*asked)
    assert done.returncode == 0, done.stderr[-800:]
    records = {r["key"]: r for r in Store(tmp_path / "results").records()}
    sums = [r for r in records.values() if r["run"].get("parts")]
    assert len(records) == 4 and len(sums) == 1
    for summed in sums:
        one, other = (records[key] for key in summed["run"]["parts"])
        assert [r["run"]["data"]["only"] for r in (one, other)] == ["boolq", "piqa"]
        assert Run.from_dict(summed["run"]).key == summed["key"] and "training" not in summed
        assert summed["composition"]["numbers"][0] > 0 and "adapter" in one
        losses = [r["training"]["losses"] for r in (one, other)]
        assert losses[0] != losses[1] and one["run"]["data"]["heldout"] == other["run"]["data"]["heldout"]
    again = cli("check", "record", sums[0]["key"], "--model", str(places / "model"), "--data", str(places / "data"))
    assert again.returncode == 0 and "same  what the parts share" in again.stdout, again.stdout + again.stderr
    refused = cli("export", sums[0]["key"], "out")
    assert refused.returncode == 2 and f"`add out results/adapters/{sums[0]['run']['parts'][0]} " in refused.stderr
    remade = cli(
        "add", "out", *(f"results/adapters/{p}" for p in sums[0]["run"]["parts"]), "--model", str(places / "model")
    )
    assert remade.returncode == 0, remade.stderr
    key = sums[0]["run"]["parts"][0]
    (tmp_path / "results" / "runs" / f"{sums[0]['key']}.json").unlink()
    (tmp_path / "results" / "adapters" / key).rename(tmp_path / "gone")
    done = cli(*asked)
    assert done.returncode == 2 and f"run {key} is finished and its adapter is not kept" in done.stderr


@pytest.mark.parametrize(
    ("method", "why"), [("base", "nothing is trained"), ("peft:prefix_tuning", "cannot be folded into the weights")]
)
def test_what_cannot_be_added_is_refused(cli: Cli, method: str, why: str) -> None:
    done = cli("run", "composition", "--methods", method, "--preset", "smoke", "--dry-run")
    assert done.returncode == 2 and f"--methods {method}: " in done.stderr and why in done.stderr


def test_only_some_tasks_are_trained_on_and_the_rest_stays(places: Path) -> None:
    data = loading.load(str(places / "data"), "commonsense", (), 8, None)
    half = data.only(("piqa",))
    assert {e.answer for e in half.train} == {"solution1"} and half.heldout == data.heldout and half.tests == data.tests
    assert len(half.train) + len(data.only(("boolq",)).train) == len(data.train)
    assert half.train_sha256 != data.train_sha256
    tiny = loading.load(None, "commonsense", (), 100, None)
    assert set(tiny.task_of or ()) == set(tiny.tests)
    apart = [len(tiny.only((task,)).train) for task in tiny.tests]
    assert sum(apart) == len(tiny.train) and min(apart) > 100
    with pytest.raises(ValueError, match="has no record of winogrande"):
        data.only(("winogrande",))


def one(method: str, what: str, seed: int, right: dict[str, float], nll: float) -> Record:
    """A record of one of the four kinds: 100 questions per task, so many of them answered."""
    correct = {t: [int((7 * i + seed) % 100 < 100 * p) for i in range(100)] for t, p in right.items()}
    made = record(method, 1.0 if method != "full" else None, seed, correct, nll=nll)
    parts = found.halves(TASKS)
    if what in (found.A, found.B):
        made["run"]["data"]["only"] = "+".join(parts[what == found.B])
    if what == found.SUM:
        made["run"]["parts"] = ["0" * 16, "1" * 16]
        made["composition"] = {"cosine": 0.1, "numbers": [10, 20], "shared": 5, "by_chance": 2.0, "opposed": 1}
    made["key"] = Run.from_dict(made["run"]).key
    return made


def sweep(gain: dict[str, float]) -> list[Record]:
    """Adapters that know their own half (80 %) and nothing of the other (40 %); a sum that is `gain` better than one of them."""
    made = []
    for method, more in gain.items():
        for seed in range(3):
            for what in (found.A, found.B, found.SUM, found.BOTH):
                first, second = {found.A: (0.8, 0.4), found.B: (0.4, 0.8)}.get(what, (0.6 + more, 0.6 + more))
                right = {t: (first if t in found.halves(TASKS)[0] else second) + 0.01 * (seed - 1) for t in TASKS}
                made.append(one(method, what, seed, right, 1.0 + (what == found.B)))
    return made


def test_verdicts_follow_the_truth(tmp_path: Path) -> None:
    files = experiment.Composition().render(sweep({"spiel": 0.2, "lora": -0.1, "full": -0.2}), tmp_path, "tiny")
    rows = {r["method"]: r for r in read(files[1])}
    assert float(rows["spiel"]["gain"]) == pytest.approx(20) and float(rows["lora"]["gain"]) == pytest.approx(-10)
    assert float(rows["spiel"]["interference"]) == pytest.approx(0, abs=1e-9)
    assert float(rows["full"]["interference"]) == pytest.approx(40) and rows["full"]["better"] == found.A
    assert (rows["spiel"]["in_common_pct"], rows["spiel"]["by_chance_pct"], rows["spiel"]["opposed_pct"]) == (
        "50",
        "20",
        "20",
    )
    said = {r["claim"]: r for r in read(files[3])}
    verdicts = {text.partition(" (")[0]: r["verdict"] for text, r in said.items()}
    assert verdicts == {
        "SpIEL: two adapters added beat the first alone": HOLDS,
        "SpIEL: two adapters added beat the second alone": HOLDS,
        "LoRA: two adapters added beat the first alone": REFUTED,
        "LoRA: two adapters added beat the second alone": REFUTED,
        "SpIEL-AG gains more than LoRA": HOLDS,
        "SpIEL-AG composed is ahead of LoRA composed": HOLDS,
        "SpIEL-AG interferes less than full fine-tuning": HOLDS,
    }
    more = next(r for text, r in said.items() if "gains more" in text)
    assert float(more["difference"]) == pytest.approx(30) and len(more["keys"].split()) == 12
    assert float(more["printed_difference"]) == pytest.approx(1.3)
    # Held-out loss of a sum is here that of A; of both adapters on their own halves there is none.
    losses = {text.partition(" (")[0]: r["nll_difference"] for text, r in said.items()}
    assert (
        float(losses["SpIEL: two adapters added beat the first alone"]) == 0
        and not losses["SpIEL-AG interferes less than full fine-tuning"]
    )
    assert float(losses["SpIEL: two adapters added beat the second alone"]) == -1


def test_its_claims_have_the_columns_of_all_others(tmp_path: Path) -> None:
    files = experiment.Composition().render(sweep({"spiel": 0.2, "lora": -0.1}), tmp_path, "tiny")
    tables = sorted((Path(__file__).parents[2] / "results" / "reference").glob("*/*/**/*_claims.csv"))
    heads = {path.read_text(encoding="utf-8").splitlines()[0] for path in (*tables, files[3])}
    assert len(tables) > 10 and len(heads) == 1, heads


def test_the_better_adapter_is_the_more_accurate_one(tmp_path: Path) -> None:
    made = [one("lora", found.SUM, seed, dict.fromkeys(TASKS, 0.7), 1.0) for seed in range(2)]
    for what, right, nll in ((found.A, 0.5, 0.1), (found.B, 0.6, 2.0)):  # B, though its loss is the higher one
        made += [one("lora", what, seed, dict.fromkeys(TASKS, right), nll) for seed in range(2)]
    (row,) = read(experiment.Composition().render(made, tmp_path, "tiny")[1])
    assert row["better"] == found.B and float(row["gain"]) == pytest.approx(10)
    assert (float(row["accuracy_a"]), float(row["accuracy_b"])) == pytest.approx((50, 60))


def test_choices_of_blocks_are_compared_where_a_warm_up_has_changed_everything(tmp_path: Path) -> None:
    made = sweep({"smt": 0.0, "lora": 0.0})
    chosen = {found.A: {"k": [[0, 0], [0, 1]], "v": [[3, 3]]}, found.B: {"k": [[0, 1]], "v": [[3, 3], [0, 0], [1, 0]]}}
    for run in made:
        what = found.kind(run)
        if run["run"]["method"]["name"] == "smt" and what in chosen:
            run["method"] = {"blocks": chosen[what], "blocks_available": 40}
    files = experiment.Composition().render(made, tmp_path, "tiny")
    rows = {r["method"]: r for r in read(files[1])}
    assert float(rows["smt"]["blocks_in_common_pct"]) == pytest.approx(200 / 3)  # two of three
    assert float(rows["smt"]["blocks_by_chance_pct"]) == pytest.approx(10)  # four of forty
    assert not rows["lora"]["blocks_in_common_pct"] and "blocks in common, %" in files[0].read_text()
    plain = experiment.Composition().render(sweep({"lora": 0.0}), tmp_path, "tiny")
    assert "blocks in common" not in plain[0].read_text()


def test_printed_gains_are_the_papers() -> None:
    assert claims.printed_gain("spiel") == pytest.approx(1.7) and claims.printed_gain("lora") == pytest.approx(0.4)
    assert claims.printed_gain("full") is None and claims.printed_gain("dora") is None
    assert [claims.printed_gain("spiel", half) for half in (found.A, found.B)] == pytest.approx([3.2, 1.7])
    ahead = next(c for c in claims.BETWEEN if "13B" in c.claim.text)
    assert ahead.printed() == pytest.approx(22.7 - 22.4)


def test_a_run_without_parts_has_its_old_key() -> None:
    made = record("lora", 1.0)
    assert not {"parts", "only"} & (made["run"].keys() | made["run"]["data"].keys())
    other = json.loads(json.dumps(made["run"])) | {"parts": ["0" * 16, "1" * 16]}
    assert Run.from_dict(other).key != made["key"] and Run.from_dict(other).to_dict() == other
