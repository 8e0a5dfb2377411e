"""Dry runs against real steps, rules against the libraries' own estimates, and counts against the papers'."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from helpers import VOCABULARY, tiny_llama
from transformers import LlamaForCausalLM

from smt_bench import methods
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.measuring.account import CATEGORIES, Account, Phase
from smt_bench.measuring.accountant import Accountant
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.modules import total_parameters
from smt_bench.methods.nf4 import TABLE_BYTES, bytes_of
from smt_bench.models import quantized
from smt_bench.models.build import config, shapes, whole_model
from smt_bench.plan import dry, fakes
from smt_bench.plan.calibrate import Calibration
from smt_bench.plan.claims import lab, page, smt, spiel
from smt_bench.plan.dry import Workload, dry_run
from smt_bench.plan.dry_runs import DryRuns
from smt_bench.plan.gpu.hardware import GPUS, find, recognised
from smt_bench.plan.gpu.roofline import Efficiency, compute_seconds, efficiency_of, step_time
from smt_bench.plan.gpu.sharding import divide, host_bytes, per_gpu
from smt_bench.plan.row import Anatomy, Target
from smt_bench.plan.rows import smallest, spreads_of, verdict
from smt_bench.questions.capacity import demand_of
from smt_bench.training.optimizer import TorchUpdater

STEPS, FRACTION = 8, 0.05
CASES: dict[str, dict[str, Any]] = {
    "base": {},
    "full": {},
    "smt": {"block_size": 16, "warmup_steps": 2},
    "smt-frozen": {"block_size": 16, "warmup_steps": 2, "warmup_trains": False},
    "smt-activation": {"block_size": 16, "warmup_steps": 2, "metric": "activation"},
    "smt-channels": {"warmup_steps": 2, "metric": "activation_channels"},
    "lora": {},
    "dora": {"dropout": 0.0},
    "spiel": {"update_every": 3, "estimate_steps": 2},
    "spiel-ma": {"update_every": 3, "estimate_steps": 2},
    "random-mask": {},
    "fish": {"warmup_steps": 2},
    "lt-sft": {"warmup_share": 0.25},
    "diff-pruning": {"warmup_share": 0.25},
    "sift": {"warmup_steps": 2},
    "s2ft": {},
}
OVER_NF4 = {"bf16 nf4": ("smt-frozen", "dora", "spiel"), "fp32 nf4": ("lora", "spiel-ma", "s2ft")}
P = 1_000_003
STATES = dict.fromkeys(CATEGORIES, 0) | {
    "parameters": 2 * P, "gradients": 6 * P, "master_copies": 4 * P, "optimizer_state": 8 * P,
}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the small LLaMA's config and nothing else."""
    folder = tmp_path_factory.mktemp("small")
    config = tiny_llama().config
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    return str(folder)


def build(case: str, fraction: float = FRACTION) -> methods.Method:
    name = case if case in methods.REGISTRY.names() else case.partition("-")[0]
    return methods.build(name, CASES[case], fraction if methods.find(name).takes_fraction else None, 0, STEPS)


def real_step(
    small: str, method: methods.Method, work: Workload, updater: type[TorchUpdater]
) -> tuple[Account, dict[str, Any]]:
    """One step on real tensors, and the method's state before it attached."""
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config(small))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dry.PRECISIONS[work.precision])
    model = quantized.quantize(model) if work.base else model
    ids, labels = work.tokens()
    ids.random_(VOCABULARY, generator=torch.Generator().manual_seed(1))
    run = Accountant(model.train(), method, OptimizerSettings(1e-4), ids, labels, work.checkpointing, updater=updater)
    state: dict[str, Any] = {}
    if method.warmup_steps:
        run.warmup()
        state = copy.deepcopy(method.state_dict())
    run.attach()
    run.tuning()
    return run.account, state


@pytest.mark.parametrize(
    ("case", "checkpointing", "precision"),
    [(case, *how) for case in CASES for how in ((False, "fp32"), (True, "bf16"))]
    + [("full", False, "bf16 Adam")]
    + [(case, kind[:4] == "bf16", kind) for kind, cases in OVER_NF4.items() for case in cases],
)
def test_planned_bytes_and_flops_are_those_of_a_real_step(
    small: str, monkeypatch: pytest.MonkeyPatch, case: str, checkpointing: bool, precision: str
) -> None:
    kinds = {"optimizer_dtype": "bf16"} if precision == "bf16 Adam" else {}
    if "nf4" in precision:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: it quantizes the real model")
        kinds["base"] = "nf4"
    work = Workload(small, 2, 12, precision[:4], checkpointing, gpu=False, **kinds)
    updater = UPDATERS[work.optimizer_dtype]
    measured, state = real_step(small, build(case), work, updater)
    monkeypatch.setattr(dry, "with_values", lambda _: state)  # the same statistics, hence the same choice
    planned = dry_run(work, build(case), {}, "").account
    if case not in ("lt-sft", "diff-pruning"):
        assert planned == measured
        return
    # Which weights move most is told by values alone: the plan spreads them evenly, over more matrices than the real choice may.
    for phase in (p for p in measured.phases if p.stage == "warmup"):
        assert planned.find("warmup", phase.phase) == phase
    assert planned.trained == measured.trained and planned.flops["warmup"] == measured.flops["warmup"]
    ours, theirs = (each.find("tuning", "optimizer").peak for each in (planned, measured))
    for kind in ("parameters", "gradients", "optimizer_state", "master_copies"):
        assert abs(ours[kind] - theirs[kind]) <= (16 if kind == "optimizer_state" else 0), kind


def test_draws_too_large_to_be_made_change_no_byte(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(small, 2, 12, "fp32", False, gpu=False)
    measured, _ = real_step(small, build("spiel"), work, TorchUpdater)
    monkeypatch.setattr(fakes, "LIMIT", 150)  # positions still have values
    assert dry_run(work, build("spiel"), {}, "").account.find("tuning", "backward") == measured.find(
        "tuning", "backward"
    )


def test_a_warm_up_is_run_once_for_all_fractions(small: str) -> None:
    work = Workload(small, 2, 12)
    shared = DryRuns(work)
    shared.run("smt", CASES["smt"], 0.02, STEPS)
    second = shared.run("smt", CASES["smt"], 0.05, STEPS)
    assert second.account == DryRuns(work).run("smt", CASES["smt"], 0.05, STEPS).account
    assert second is shared.run("smt", CASES["smt"], 0.05, STEPS)
    assert second.account.trained["tuning"] > second.warmup_steps > 0


def test_gpu_kernels_save_no_attention_matrix_and_boolean_masks(small: str) -> None:
    def saved(**changes: Any) -> int:
        work = Workload(small, 2, 64, **({"checkpointing": False, "precision": "fp32"} | changes))
        return dry_run(work, build("lora"), {}, "").account.saved_activations()

    matrices = 2 * 2 * 4 * 64 * 64 * 4  # layers, batch, heads, positions twice, bytes
    # The flash kernel saves its output, a number per row, and with grouped queries the keys and values it repeated.
    assert saved(attention="eager") - saved() > matrices / 2
    masks = 2 * 2 * 64 * (4 * 64 + 96)  # layers, batch, positions, inputs of q, k, v, up and of down
    assert saved(gpu=False) - saved() > masks  # four bytes per number on the CPU, one on a GPU
    assert saved(checkpointing=True) < 0.4 * saved()


def test_a_plan_grows_with_its_tokens_as_the_claims_assume(small: str) -> None:
    for case, within in (("full", 0.02), ("lora", 0.02), ("spiel", 0.15)):  # SpIEL's dense gradients do not grow
        one = dry_run(Workload(small, 2, 48), build(case), {}, "").account
        two = dry_run(Workload(small, 6, 48), build(case), {}, "").account
        guess = lab.at_tokens(one, 3).peak().peak_bytes
        assert guess == pytest.approx(two.peak().peak_bytes, rel=within), case


def test_parameter_counts_are_the_papers() -> None:
    counts = {name: total_parameters(shapes(name)) for name in ("llama-7b", "llama-13b", "llama2-7b", "llama3-8b")}
    assert list(counts.values()) == [6_738_415_616, 13_015_864_320, 6_738_415_616, 8_030_261_248]
    sizes = shapes("llama-7b")
    # The SMT paper divides by 6,738,411,520 (footnote 6): it leaves out the last norm.
    assert counts["llama-7b"] - sizes["model.norm.weight"][0] == 6_738_411_520
    smt = methods.build("smt", {}, 514 * 256**2 / counts["llama-7b"], 0, 1000).capacity(sizes)
    assert (smt.units, smt.trainable, round(100 * smt.fraction, 2)) == (514, 33_685_504, 0.5)
    lora, dora = (methods.build(name, {}, 0.0084, 0, 10).capacity(sizes) for name in ("lora", "dora"))
    assert (lora.units, dora.units) == (32, 32)
    assert (int(1e4 * lora.fraction) / 100, int(1e4 * dora.fraction) / 100) == (0.83, 0.84)


def test_zero_divides_as_deepspeed_estimates() -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed: its estimators are the reference here")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    largest = 12_345
    for n in (1, 4, 8):
        _, theirs = estimate_zero2_model_states_mem_needs(P, n, 1, cpu_offload=False)
        assert abs(sum(divide(STATES, Spread(n, zero=2), largest).values()) - theirs) <= 3  # rounded per category
        host, theirs = estimate_zero2_model_states_mem_needs(P, n, 1, cpu_offload=True)
        assert sum(divide(STATES, Spread(n, zero=2, offload=True), largest).values()) == theirs
        assert n > 4 or host_bytes(P, Spread(n, zero=2, offload=True)) == host
        host, theirs, _ = estimate_zero3_model_states_mem_needs(P, largest, n, 1, False, False)
        ours = sum(divide(STATES, Spread(n, zero=3), largest).values())
        assert abs(ours - theirs - 2 * P / n) <= 4  # theirs leaves out the 16-bit gradients
        host, theirs, _ = estimate_zero3_model_states_mem_needs(P, largest, n, 1, True, False)
        assert abs(sum(divide(STATES, Spread(n, zero=3, offload=True), largest).values()) - theirs) <= 1
        assert host_bytes(P, Spread(n, zero=3, offload=True)) == host


def test_zero_leaves_activations_alone() -> None:
    peak = STATES | {"saved_activations": 700, "logits_loss": 70, "temporaries": 7, "method_state": 3}
    whole = divide(peak, ALONE, 100)
    assert whole == peak
    halved = divide(peak, Spread(4, zero=1), 100, batch_share=0.5)
    assert (halved["saved_activations"], halved["logits_loss"], halved["temporaries"]) == (350, 35, 7)
    assert (halved["gradients"], halved["parameters"]) == (6 * P, 2 * P)
    assert halved["optimizer_state"] == 2 * P


def test_a_plan_shards_what_training_shards_and_nothing_else() -> None:
    """ZeRO is for phases that train the whole model (`training.updaters`): a round of LT-SFT trains the targets alone."""
    target = Target(GPUS["a100-40gb"], Spread(4))
    assert spreads_of(target, 4, False) == [Spread(4)]
    assert {s.zero for s in spreads_of(target, 4, True)} == {0, 2, 3}
    forced = Target(target.gpu, Spread(4, zero=3, offload=True), fixed=True)
    assert spreads_of(forced, 4, False) == [Spread(4)] and spreads_of(forced, 4, True) == [forced.spread]
    split = {**dict.fromkeys(CATEGORIES, 0), "optimizer_state": 400 * 10**9}
    held = Account([Phase("warmup", "optimizer", split, split), Phase("tuning", "forward", STATES, STATES)])
    assert smallest(held, 100, target, 16, whole={"warmup"}) is not None
    assert smallest(held, 100, target, 16, whole=()) is None


def test_a_roofline_takes_the_slower_of_arithmetic_and_memory() -> None:
    from collections import Counter

    half, single = torch.bfloat16, torch.float32
    operations = Counter({(False, half, 1000, 10): 2, (False, single, 1000, 10): 1, (True, half, 0, 600): 3})
    half_of_both = Efficiency(0.5, 0.5)
    assert compute_seconds(operations, 100.0, 10.0, 20.0, half_of_both, optimizer=0) == 2 * (2 * 10 + 100)
    assert compute_seconds(operations, 100.0, 10.0, 20.0, half_of_both) == 2 * (2 * 10 + 100 + 3 * 30)
    # Products at half their peak, the memory at a quarter: the update waits for the memory alone.
    assert compute_seconds(operations, 100.0, 10.0, 20.0, Efficiency(0.5, 0.25)) == 2 * (2 * 10 + 100) + 4 * 3 * 30
    gpu = find("a100-40gb")
    alone = step_time(Counter(), P, P, gpu, ALONE)
    assert alone.total == 0
    spread = step_time(Counter(), P, P, gpu, Spread(4, zero=2, offload=True))
    assert spread.link == pytest.approx(2 * 3 / 4 * 2 * P / 300e9)
    assert spread.host == pytest.approx(4 * P / 4 / 32e9 + 28 * P / 204.8e9)
    assert step_time(Counter(), 0, P, gpu, Spread(4, zero=3)).link == pytest.approx(2 * 3 / 4 * 2 * P / 300e9)


def test_every_gpu_has_a_source_and_verdicts_have_edges() -> None:
    assert all(gpu.source and gpu.bf16 > gpu.fp32 and gpu.name == name for name, gpu in GPUS.items())
    gpu = find("rtx3090")
    assert [verdict(int(share * gpu.free), gpu) for share in (0.89, 0.91, 1.01)] == ["OK", "tight", "no"]
    with pytest.raises(ValueError, match="did you mean a100-40gb"):
        find("a100-40")


class SmallLab(lab.Lab):
    """The papers' models shrunk: every claim is computed in seconds, from the same code."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def run(self, method: str, pct: float | None, model: str = "", *how: Any, **changes: Any) -> Any:
        if method == "smt":
            changes["block_size"] = 16
        return super().run(method, None if pct is None else max(pct, 2.0), self.folder, *how, **changes)

    def anatomy(self, model: str) -> Anatomy:
        return super().anatomy(self.folder)


def test_every_claim_is_computed_with_its_assumptions(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smt, "SIDE", 16)
    monkeypatch.setattr(smt, "BLOCKS", 8)
    monkeypatch.setattr(spiel, "RANK", 4)
    asked = SmallLab(small)
    found = page.collect(asked)
    names = [c.name for c in found]
    assert len(set(names)) == len(names) == 8 + 4 + 1 + 24 + 4
    theirs = [c for c in found if c.printed is not None]
    assert len(theirs) == len(found) - 4 and all(c.verdict.startswith(("holds", "does not hold")) for c in theirs)
    assert all(c.source and c.assumptions for c in found)
    ours = [c for c in found if c.printed is None]  # no paper has them
    assert all("qsmt" in c.name and c.verdict == "" and c.computed > 0 for c in ours)
    by_name = {c.name: c for c in found}
    assert by_name["sparse-5x"].computed == 5
    # On the small model no token count can make LoRA take 40 GiB; the other rules still order the variants.
    values = {n: c.computed for n, c in by_name.items() if n.startswith("spiel-table3-llama2-7b")}
    start = "spiel-table3-llama2-7b-"
    assert values[f"{start}spiel-ma"] <= values[f"{start}spiel-ag"]
    assert values[f"{start}lora-checkpointing"] < values[f"{start}lora"]
    # Over 4 bits the method is run on such a base: less by what the codes save, plus one whole matrix at a time.
    of = {base: asked.run("lora", 2.0, base=base, targets=spiel.TARGETS).account for base in ("", "nf4")}
    held = {base: account.find("tuning", "forward").peak["parameters"] for base, account in of.items()}
    shapes = Anatomy.of(small).linears.values()
    assert held[""] - held["nf4"] == sum(2 * math.prod(s) - bytes_of(s) for s in shapes) - TABLE_BYTES
    assert all(values[f"{start}q{n}"] < values[f"{start}{n}"] for n in ("lora", "spiel-ag", "spiel-ma"))
    text = page.table(found).to_markdown()
    wanted = set()  # each is run by a process of its own, where there are cores

    def account(*cell: Any) -> Account:
        wanted.add(cell)
        return spiel.variant(asked, *cell)

    assert [c.computed for c in spiel.claims(account)] == [c.computed for c in found[-28:]]
    assert wanted == set(spiel.cells()) and len(spiel.cells()) == len(wanted) == 28
    assert text.count("no paper has it") == 4
    assert text.count("\n| ") == len(found) + 2  # with header and rule


def test_the_largest_batch_within_a_limit_is_the_largest() -> None:
    from smt_bench.measuring.account import Phase

    bytes_now = dict.fromkeys(CATEGORIES, 0) | {
        "parameters": 10**9,
        "saved_activations": lab.BATCH * lab.LENGTH * 10**6,
    }
    account = Account([Phase("tuning", "forward", dict(bytes_now), dict(bytes_now))])
    assert lab.most_tokens(account, 3.5) == 2500  # a megabyte per token, a gigabyte of parameters
    assert lab.most_tokens(account, 0.5) == 0
    assert account.peak().peak == bytes_now  # as it was
    assert per_gpu(account, ALONE, 0)[:2] == (10**9 + lab.BATCH * lab.LENGTH * 10**6, "tuning forward")


def test_efficiencies_are_the_cards_own_where_one_was_measured() -> None:
    h100, a100 = find("h100-80gb"), find("a100-80gb")
    assert efficiency_of(a100) == Efficiency(0.5, 0.5)
    assert efficiency_of(h100).matrix == pytest.approx(798 / 989.4) and efficiency_of(h100).bandwidth == pytest.approx(
        3 / 3.35
    )
    assert Target(h100, ALONE).efficiency == efficiency_of(h100)
    assert Target(h100, ALONE, asked=Efficiency(0.3, 0.4)).efficiency == Efficiency(0.3, 0.4)
    measured = [gpu for gpu in GPUS.values() if gpu.measured]
    assert {gpu.name for gpu in measured} == {"h100-80gb", "h200-141gb"} and all(g.measured.source for g in measured)
    for name, memory, card in (
        ("NVIDIA H100 80GB HBM3", 85_017_624_576, "h100-80gb"),
        ("NVIDIA A100-SXM4-40GB", 42_314_694_656, "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", 84_974_239_744, "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", 25_262_096_384, "rtx4090"),
        ("NVIDIA L40S", 47_697_362_944, "l40s-48gb"),
    ):
        assert recognised(name, memory) == find(card), name
    assert recognised("NVIDIA H100 NVL", 100_000_000_000) is None and recognised("Tesla V100", 34_000_000_000) is None


def test_a_calibration_is_of_the_card_it_was_made_on() -> None:
    h100, a100 = find("h100-80gb"), find("a100-80gb")
    here = Calibration("NVIDIA H100", 0.8 * h100.bf16, 0.9 * h100.bandwidth, 0.5, h100)
    assert here.efficiency(h100) == Efficiency(pytest.approx(0.4), pytest.approx(0.45))
    assert here.efficiency(a100) == Efficiency(0.5, 0.5)


def test_fewer_layers_are_planned_as_they_are_built(small: str) -> None:
    whole, part = (DryRuns(Workload(small, 2, 12, layers=n)).run("full", {}, None, STEPS).account for n in (None, 1))
    ratio = whole_model(small, 1)
    held = [account.find("tuning", "forward").peak["parameters"] for account in (whole, part)]
    assert ratio.layers == 2 and held[0] / held[1] == pytest.approx(ratio.parameters, rel=1e-3)  # with rotary buffers
    # Products grow with the parameters outside the embedding; attention's own, which the factor leaves out, with the layers.
    assert whole.flops["tuning"]["forward"] / part.flops["tuning"]["forward"] == pytest.approx(ratio.products, rel=0.1)


@pytest.mark.parametrize("kinds", [("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "bf16")])
@pytest.mark.parametrize("case", CASES)
def test_the_gates_rule_is_what_is_counted(case: str, kinds: tuple[str, str]) -> None:
    """Weights, gradients, optimizer and what a method keeps, at the worst moment of any phase; activations apart."""
    work = Workload("bench-60m", 1, 16, kinds[0], optimizer_dtype=kinds[1])
    config = {**CASES[case], **({"block_size": 64} if "block_size" in CASES[case] else {})}
    fraction = None if case == "full" else 0.04
    made = methods.build(build(case).name, config, fraction, 0, STEPS)
    capacity = made.capacity(shapes("bench-60m"))
    account = DryRuns(work).run(made.name, config, fraction, STEPS).account
    held = ("parameters", "gradients", "optimizer_state", "master_copies", "method_state")
    counted = max(sum(phase.peak[part] for part in held) for phase in account.phases)
    assert demand_of(made, capacity.total, capacity.trainable, capacity.kept).states(*kinds) == pytest.approx(
        counted, rel=0.03
    )
