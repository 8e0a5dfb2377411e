"""The page without a browser: what is told of cells, what becomes of text, how large it gets."""

from __future__ import annotations

import base64
import gzip
import json
import re
from functools import partial
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest
from helpers import Cli
from made_up import record
from page_folder import HOSTILE, PLACE, REFERENCE, fill

from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.decisions import AHEAD, BEHIND, OPEN, WITHIN, benjamini_hochberg
from smt_bench.evidence.pairs import compare, decided
from smt_bench.records.files import BenchWarning
from smt_bench.records.store import Record, Store
from smt_bench.report.page import answers, build, claims, fronts, markup
from smt_bench.report.page.details import both, by_layer, details, thin
from smt_bench.report.page.folder import studies
from smt_bench.report.page.points import BY_NAME, Field, Point, field_of, state, surely_better

FRACTION, ACCURACY, NLL, SECONDS = (BY_NAME[name] for name in ("fraction", "accuracy", "nll", "seconds"))


@pytest.fixture(scope="module")
def plateau() -> list[Record]:
    index = json.loads((REFERENCE / PLACE / "runs.json").read_text(encoding="utf-8"))
    records = Store(REFERENCE).records(index["settings"][index["latest"]])
    return [
        r for r in records if not r["run"].get("tuning")
    ]  # tuned ones stand beside them and have a card of their own


@pytest.fixture(scope="module")
def found(plateau: list[Record]) -> Field:
    made = field_of(plateau)
    assert made is not None
    return made


def point(label: str, **values: float | tuple[float, float]) -> Point:
    pairs = {name: value if isinstance(value, tuple) else (value, None) for name, value in values.items()}
    return Point(label, label, None, pairs, ())


def made(*points: Point, zones: dict[tuple[str, str], str] | None = None) -> Field:
    known = {(a.label, b.label): OPEN for a, b in combinations(points, 2)} | (zones or {})
    other = {AHEAD: BEHIND, BEHIND: AHEAD, WITHIN: WITHIN, OPEN: OPEN}
    known |= {(b, a): other[zone] for (a, b), zone in known.items()}
    return Field(list(points), None, {}, {"accuracy": known}, {p.label for p in points}, [], {})


def test_every_pair_of_cells_is_decided_as_the_evidence_says(plateau: list[Record], found: Field) -> None:
    cells = [g for g in groups(plateau) if g.trains]
    pairs = [compare(a, b, common_tasks(groups(plateau))) for a, b in combinations(cells, 2)]
    for name, prefix in (("accuracy", ""), ("nll", "nll_")):
        for pair, decision in zip(pairs, decided(pairs, prefix, benjamini_hochberg)):
            assert found.zone(name, pair.a.label, pair.b.label) == decision.zone
    assert found.zone("accuracy", "full", "LoRA 1 %") == AHEAD and found.zone("accuracy", "LoRA 1 %", "full") == BEHIND
    assert found.base is not None and found.base.label == "base"


def test_the_answer_names_a_best_only_where_it_is_surely_ahead_of_all(found: Field) -> None:
    for line in answers.by_budget(found, FRACTION):
        for name, answer in line.answers.items():
            inside = [answer.best, *answer.same, *answer.open, *answer.behind]
            values = [p.values[name][0] for p in inside]
            assert answer.best.values[name][0] == (max(values) if BY_NAME[name].high else min(values))
            assert answer.clear == all(surely_better(found, BY_NAME[name], answer.best, p) for p in inside[1:])
    no_limit = answers.by_budget(found, FRACTION)[-1]
    assert no_limit.answers["accuracy"].best.label == "full" and no_limit.answers["accuracy"].clear


def test_before_the_last_declared_run_no_best_is_named(found: Field) -> None:
    assert build._waiting(found, 0) is found and any("best" in line for line in answers.headline(found))
    said = answers.headline(build._waiting(found, 2))
    assert said and all("(2 declared runs are missing): numbers without a verdict" in line for line in said)


def test_pretrained_models_come_before_a_testbed_and_tuned_rates_before_a_recipes(plateau: list[Record]) -> None:
    testbed = plateau[0]
    real = {**testbed, "run": {**testbed["run"], "model": {**testbed["run"]["model"], "weights": "hub"}}}
    tuned = {**real, "recipe": {"tuning": "ab12"}}
    assert sorted([testbed, real, tuned], key=build._weight) == [tuned, real, testbed]
    assert build._weight(testbed, "ab12") < build._weight(testbed)


def test_what_cannot_be_told_is_said(found: Field) -> None:
    low, high = point("A", accuracy=(60.0, 9.0), fraction=1.0), point("B", accuracy=(70.0, 9.0), fraction=1.0)
    unknown, told = made(low, high), made(low, high, zones={("A", "B"): BEHIND})
    equal = made(low, high, zones={("A", "B"): WITHIN})
    words = [answers.best(f, ACCURACY, f.points).words for f in (unknown, told, equal)]  # type: ignore[union-attr]
    assert words == ["Cannot be told between B, A", "B", "B, A: as good as each other"]
    assert "it cannot be told which is best" in " ".join(answers.headline(unknown))
    assert answers.best(unknown, NLL, unknown.points) is None


def test_a_number_that_is_not_there_is_no_zero() -> None:
    records = [record(name, 1.0, seed=s) for name in ("lora", "dora") for s in (0, 1)]
    for r in records:
        r.pop("seconds", None)
        r.pop("heldout", None)
    field = field_of(records)
    assert field is not None
    assert all("seconds" not in p.values and "nll" not in p.values for p in field.points)
    assert SECONDS not in field.present() and answers.by_budget(field, SECONDS) == []


def test_one_seed_decides_nothing() -> None:
    field = field_of([record("lora", 1.0), record("dora", 1.0)])
    assert field is not None and field.whys["accuracy"] == "one seed"
    assert all("one seed" in sentence for sentence in answers.headline(field))
    assert not any(line.answers["accuracy"].clear for line in answers.by_budget(field, FRACTION))


@pytest.mark.parametrize(
    ("zone", "cost_a", "cost_b", "expected"),
    [
        (AHEAD, 1.0, 1.0, "dominated"),
        (AHEAD, 1.0, 2.0, "dominated"),
        (AHEAD, 2.0, 1.0, "front"),  # cheaper, if worse
        (OPEN, 1.0, 2.0, "open"),  # by its mean alone
        (WITHIN, 1.0, 2.0, "dominated"),  # as good and dearer
        (WITHIN, 1.0, 1.0, "open"),
        (BEHIND, 1.0, 2.0, "front"),
    ],
)
def test_only_what_is_surely_worse_counts_as_dominated(zone: str, cost_a: float, cost_b: float, expected: str) -> None:
    mean_b = 50.0 if zone != BEHIND else 90.0
    a, b = point("A", accuracy=70.0, fraction=cost_a), point("B", accuracy=mean_b, fraction=cost_b)
    assert state(made(a, b, zones={("A", "B"): zone}), FRACTION, ACCURACY, b) == expected


def test_times_are_told_apart_only_where_their_intervals_do_not_meet() -> None:
    fast, slow = point("A", seconds=(10.0, 1.0), accuracy=70.0), point("B", seconds=(20.0, 1.0), accuracy=60.0)
    vague = point("B", seconds=(20.0, 15.0), accuracy=60.0)
    single = point("B", seconds=20.0, accuracy=60.0)
    zones = {("A", "B"): AHEAD}
    assert state(made(fast, slow, zones=zones), SECONDS, ACCURACY, slow) == "dominated"
    assert state(made(fast, vague, zones=zones), SECONDS, ACCURACY, vague) == "open"
    assert state(made(fast, single, zones=zones), SECONDS, ACCURACY, single) == "open"


def test_a_static_figure_says_what_vega_wrote(found: Field) -> None:
    convert = pytest.importorskip("vl_convert", reason="the page needs the extra 'report'")
    chart = fronts.pareto("x", "tiny", found)
    assert chart is not None
    words = re.compile(r"<text[^>]*>([^<]*)</text>")
    written = words.findall(convert.vegalite_to_svg(json.dumps(chart.spec)))
    assert words.findall(chart.svg) == written and len(written) > 15  # coordinates are shortened, numbers are not
    assert len(chart.svg) < 40_000


def test_forgetting_is_an_axis_where_it_was_measured() -> None:
    records = [record(name, 1.0, seed=s) for name in ("lora", "dora") for s in (0, 1)]
    assert BY_NAME["general"] not in field_of(records).present()  # type: ignore[union-attr]
    for i, r in enumerate(records):
        r["losses"] = {"general-embedded": {"nll": 2.0 + i}, "other": {"nll": 9.0}}
    found = field_of(records)
    assert found is not None and [p.values["general"][0] for p in found.points] == [2.5, 4.5]
    pytest.importorskip("altair", reason="the page needs the extra 'report'")
    chart = fronts.pareto("x", "tiny", found)
    assert chart is not None and {"accuracy", "general"} <= {axis["name"] for axis in chart.axes if axis["gives"]}


def test_variants_of_a_method_are_no_seeds() -> None:
    two = record("lora", 1.0, lr=1e-3), record("lora", 1.0, seed=1, lr=2e-3)
    assert field_of([*two, record("dora", 1.0), record("dora", 1.0, seed=1)]) is None


def test_curves_keep_their_mean_and_what_is_no_number_is_left_out() -> None:
    assert thin([4.0, 2.0, 1.0], 10) == [[1, 4.0], [2, 2.0], [3, 1.0]]
    assert thin([4.0, 2.0, 1.0, 3.0, 9.0], 2) == [[2.0, pytest.approx(7 / 3, rel=1e-3)], [4.5, 6.0]]
    assert thin([1.0, float("nan"), None, float("inf")], 4) == [[1, 1.0]]


def test_details_say_what_the_record_says(plateau: list[Record]) -> None:
    one = next(r for r in plateau if r["run"]["method"]["name"] == "smt")
    small = details(one, 60, 3000)
    for task, result in one["evaluation"].items():
        shown = small["tests"][task]
        letters = dict(zip("ABCDEFGHIJ", shown["words"]))
        assert [letters[c] for c in shown["said"]] == result["examples"]["prediction"]
        assert [letters[c] for c in shown["gold"]] == result["examples"]["gold"]
        assert [int(c) for c in shown["right"]] == result["examples"]["correct"]
    blocks = one["method"]["blocks"]
    assert sum(count for _, _, count in small["blocks"]) == sum(map(len, blocks.values())) == one["capacity"]["units"]
    assert by_layer({"model.layers.12.mlp.up_proj": [[0, 0], [1, 1]]}) == [[12, "up_proj", 2]]
    few = details(one, 24, 0)
    assert len(few["losses"]) <= 24 and "positions" not in few and all("said" not in t for t in few["tests"].values())


def test_claims_have_place_evidence_verdict_and_their_runs(plateau: list[Record]) -> None:
    store, there = Store(REFERENCE), [s for s in studies(REFERENCE) if s.place == PLACE]
    runs = {d["key"]: d for _, d in store.mapped(there[0].keys, partial(both, points=5, most=0, pool={}))}
    rows = claims.judged(there, runs)
    first = next(r for r in rows if r.statement == "SMT beats LoRA at the same fraction, at 2 %")
    assert (
        first.source == "section 1, table 3"
        and first.verdict == "holds"
        and first.table == "table-plateau-tiny-table3_claims"
    )
    assert {(runs[k]["run"]["method"]["name"], runs[k]["run"]["method"]["fraction"]) for k in first.keys} == {
        ("smt", 0.02), ("lora", 0.02)}  # fmt: skip
    assert len(first.keys) == 10 and not any(runs[k]["run"].get("tuning") for k in first.keys)  # five seeds each
    whole = next(r for r in rows if r.statement.startswith("SMT at its largest fraction is as good as full"))
    assert {runs[k]["run"]["method"]["name"] for k in whole.keys} == {"smt", "full"}
    told = claims.tally(rows)
    held, failed = (sum(r.verdict == word for r in rows) for word in ("holds", "does not hold"))
    assert told.startswith(f"{held} of {len(rows)} claims hold, {failed} do not, ")


@pytest.mark.parametrize("root", ["reference", "reference-tuners", "reference-sparse"])
def test_every_committed_table_of_claims_is_shown_with_its_evidence(root: str) -> None:
    there = studies(REFERENCE.parent / root)
    judged = claims.judged(there, {})
    written = [row for s in there for table in s.claims.values() for row in table if "claim" in row]
    assert len(judged) == len(written) > 0
    for shown, row in zip(judged, written):
        assert shown.statement and shown.verdict == row["verdict"] and "0 seeds" not in shown.how
        assert bool(shown.ours) == bool(row.get("difference") or row.get("ours") or row.get("nll_difference"))


def test_runs_that_tables_hide_are_hidden_here_too(tmp_path: Path) -> None:
    place, runs = tmp_path / "plateau" / "tiny", tmp_path / "runs"
    place.mkdir(parents=True)
    runs.mkdir()
    for key in ("a", "b"):
        (runs / f"{key}.json").write_text("{}")
    (place / "runs.json").write_text(json.dumps({"schema": 1, "latest": "s", "settings": {"s": ["a", "b", "c"]}}))
    first = {"sha256": "0", "finished_before": 0, "runs": 1, "keys": ["a"], "declared": {"seeds": [0]}}
    later = {"sha256": "0", "finished_before": 0, "keys": ["b", "c"], "seeds": [1, 2], "joins": False}
    declared = {"schema": 1, "analyses": {"s": {**first, "later": [later]}}}
    (place / "analysis.json").write_text(json.dumps(declared))
    assert [(study.keys, study.missing) for study in studies(tmp_path)] == [(("a",), 0)]
    (runs / "c.json").write_text("{}")
    assert [study.keys for study in studies(tmp_path)] == [("a", "b", "c")]
    (runs / "a.json").unlink()
    assert [study.missing for study in studies(tmp_path)] == [1]
    (place / "analysis.json").write_text("{")
    with pytest.warns(BenchWarning, match="analysis.json is damaged"):
        assert [study.keys for study in studies(tmp_path)] == [("a", "b", "c")]


def test_text_from_elsewhere_stays_text(tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text(
        f"## {HOSTILE}\n\n| a |\n| - |\n| {HOSTILE} [x](javascript:alert(1)) ![y](http://z/p.png) <http://z> |\n\n- {HOSTILE}\n"
    )
    (shown,) = markup.tables(tmp_path / "t.md", "x")

    class Tags(HTMLParser):
        names: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.names.append(tag)

    tags = Tags()
    tags.feed(shown.html + "".join(shown.notes))
    assert set(tags.names) <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert "window.hacked" in shown.html  # shown, as text


def test_without_its_packages_the_command_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    (tmp_path / "results").mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = cli("report")
    assert (
        done.returncode == 2 and 'pip install "smt-bench[report]"' in done.stderr and len(done.stderr.splitlines()) == 1
    )


@pytest.mark.parametrize("what", ["no folder", "empty"])
def test_nothing_to_report_is_one_line(cli: Cli, tmp_path: Path, what: str) -> None:
    pytest.importorskip("altair", reason="the page needs the extra 'report'")
    if what == "empty":
        (tmp_path / "results").mkdir()
    done = cli("report")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results" / "report").exists()


def test_the_page_holds_all_and_is_small(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("altair", reason="the page needs the extra 'report'")
    keys = fill(tmp_path / "results")
    done = cli("report")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results" / "report" / "index.html").read_text(encoding="utf-8")
    shell = 900_000  # of the script and the figures, whatever the number of runs
    assert len(text) < shell + (3_000_000 - shell) * (len(keys) + 1) / 400
    packed = re.search(r'id="packed">([^<]*)<', text)
    assert packed is not None
    values = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert set(keys) < set(values["runs"]) and len(values["runs"]) == len(keys) + 1
    assert "http://z/" not in re.sub(r"<td[^>]*>[^<]*</td>", "", text) and "<img src=x" not in text
    ids = set(re.findall(r' id="([^"]+)"', text))
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert {link for link in links if not link.startswith("run-")} <= ids  # every link leads somewhere
    assert all(f"run-{key}" in links for key in keys)
    trials = values["charts"]["tuning-plateau-tiny-tuning"]["spec"]["datasets"]["values"]
    assert {t["method"] for t in trials} == {"LoRA", "DoRA"} and sum(t["chosen"] for t in trials) == 1
    assert len({t["seed"] for t in trials}) == 1  # the first tuning seed alone: later ones are of the best trials only
    curve = values["charts"]["curve-plateau-tiny-tuning"]["spec"]["datasets"]["values"]
    assert [c.get("low") for c in curve] == [0.4, None, 0.5] and "low" not in curve[1]  # no number, no 0


def test_without_a_test_set_no_column_of_accuracy_stands_empty(plateau: list[Record]) -> None:
    def without(r: Record) -> Record:
        asked = {**r["run"], "evaluation": {**r["run"]["evaluation"], "tasks": {}}}
        return {**r, "run": asked, "evaluation": {}}

    for records, titles in ((plateau, ["accuracy", "held-out loss"]), ([*map(without, plateau)], ["held-out loss"])):
        made = field_of(records)
        assert made is not None
        assert [title for _, title in answers.judged_by(answers.by_budget(made, FRACTION))] == titles
