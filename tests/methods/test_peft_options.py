"""The settings, sizes and names of peft's tuners: what is refused and how, what becomes part of a key, what `list` says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Cli, tiny_llama
from hypothesis import given
from hypothesis import strategies as st
from test_peft_tuners import STEPS, Training

from smt_bench import methods
from smt_bench.methods.peft_tuners import known
from smt_bench.methods.peft_tuners.budget import Outside, nearest
from smt_bench.methods.peft_tuners.knobs import KNOBS
from smt_bench.methods.peft_tuners.sizes import values
from smt_bench.models import merging
from smt_bench.questions.planner import Planner
from smt_bench.questions.recipes import TINY
from smt_bench.questions.request import Request

REFUSED = [
    ("peft:vera", "r", 4, "r: the trainable fraction decides it"),
    ("peft:vera", "target_modules", "x", "target_modules: the setting is called targets"),
    ("peft:vera", "task_type", "SEQ_CLS", "task_type: is decided here"),
    ("peft:vera", "inference_mode", True, "inference_mode: is decided here"),
    ("peft:vera", "d_inital", 0.1, "d_inital: unknown setting: did you mean d_initial?"),
    ("peft:vera", "d_initial", "abc", "d_initial='abc': choose a number"),
    ("peft:vera", "save_projection", 1, "save_projection=1: choose true or false"),
    ("peft:lora", "lora_alpha", True, "lora_alpha=True: choose a whole number"),
    ("peft:lora", "init_lora_weights", "corda", "init_lora_weights='corda': looks at training data"),
    ("peft:lora", "eva_config", {"rho": 1.0}, "eva_config: is decided here"),
    ("peft:lora", "init_lora_weights", "pissa_niter_x", "init_lora_weights='pissa_niter_x': choose"),
    ("peft:lora", "kasa_config", {"betta": 1}, "kasa_config={'betta': 1}: choose names with values, of "),
    ("peft:lora", "layer_replication", [[0, 1]], "layer_replication: makes another model"),
    ("peft:oft", "coft", "maybe", "coft='maybe': choose true or false"),
    ("peft:adamss", "use_asa", True, "use_asa: needs calls from peft's own trainer"),
    ("peft:prompt_tuning", "prompt_tuning_init", "TEXT", "prompt_tuning_init='TEXT': needs a tokenizer"),
    ("peft:prompt_tuning", "token_dim", 4, "token_dim: follows from the model"),
    ("peft:ia3", "merge", "no", "merge='no': choose true or false"),
    ("lora", "lora_alpha", 3, "lora_alpha: the setting is called alpha_per_rank"),
    ("dora", "use_dora", False, "use_dora: that is the method dora"),
]


@pytest.mark.parametrize(("method", "name", "value", "told"), REFUSED)
def test_what_cannot_be_set_is_refused_in_one_line(method: str, name: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError) as error:
        Request("plateau", "tiny", settings=((method, name, value),))
    line = str(error.value)
    assert line.startswith(told) and line.endswith(f"(--set {method}.{name}=...)") and "\n" not in line


def test_peft_itself_looks_at_the_values_together() -> None:
    with pytest.raises(ValueError, match="^layers_pattern='layers': peft refuses it"):
        methods.find("peft:vera").Config.from_dict({"layers_pattern": "layers"})


@pytest.mark.parametrize(
    ("method", "name", "given_values", "kept"),
    [
        ("peft:vera", "d_initial", (1, 1.0), 1.0),
        ("peft:lora", "use_rslora", (True, "true", "True"), True),
        ("peft:lora", "init_lora_weights", ("pissa_niter_4",), "pissa_niter_4"),
        ("peft:vera", "layers_to_transform", ([0, 1.0],), [0, 1]),
        ("peft:vera", "layers_to_transform", (1,), 1),
        ("peft:road", "variant", ("road_2",), "road_2"),
    ],
)
def test_a_field_has_one_form_in_the_key(method: str, name: str, given_values: tuple[Any, ...], kept: Any) -> None:
    config = methods.find(method).Config
    for value in given_values:
        made = config.from_dict({name: value})
        plain = made.to_dict()
        assert repr(plain[name]) == repr(kept)
        assert config.from_dict(json.loads(json.dumps(plain))) == made


def test_keys_of_before_stay() -> None:
    plain = {"targets": ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"], "alpha_per_rank": 2.0, "dropout": 0.05}
    for name in ("lora", "dora"):
        config = methods.find(name).Config
        assert config().to_dict() == plain and list(config().to_dict()) == list(plain)
        assert config.from_dict({"merge": False}).to_dict() == plain | {"merge": False}


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "gaussian", "use_dora": True},
        {"kasa_config": {}},
        {"layers_to_transform": [1]},
        {"lr_ratio": 16.0},
    ],
    ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()),
)
def test_variants_of_lora_train_as_planned_and_merge(options: dict[str, Any]) -> None:
    method = methods.build("peft:lora", options, 0.02, 0, STEPS)
    model = tiny_llama()
    capacity = method.capacity({name: tuple(p.shape) for name, p in model.named_parameters()})
    training = Training(method, model)  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == capacity.trainable
    training.go(1, STEPS)
    difference = merging.merge(method, model)["difference"]
    assert isinstance(difference, float) and difference <= 1e-5


def test_lora_plus_is_a_matter_of_rates() -> None:
    groups = methods.build("peft:lora", {"lr_ratio": 16}, 0.02, 0, STEPS).attach(tiny_llama())
    assert [group.lr_scale for group in groups] == [1.0, 16.0]
    rank = {len(p) for p in groups[0].params}
    assert len(rank) == 1 and all(p.shape[1] in rank for p in groups[1].params)  # A is (r, I), B is (O, r)


def test_an_update_that_is_not_to_be_merged_stays_and_is_said_to() -> None:
    method, model = methods.build("peft:lora", {"merge": False}, 0.02, 0, STEPS), tiny_llama()
    method.attach(model)
    assert merging.merge(method, model) == {"difference": None, "tolerance": 1e-4, "unmerged": "peft:lora"}
    assert any("lora_A" in name for name, _ in model.named_parameters())


def test_the_seed_decides_what_is_frozen_at_random() -> None:
    def projection(seed: int) -> torch.Tensor:
        model = tiny_llama()
        methods.build("peft:vera", {}, 0.008, seed, STEPS).attach(model)
        return next(b for name, b in model.named_buffers() if "vera_A" in name)

    assert torch.equal(projection(1), projection(1)) and not torch.equal(projection(1), projection(2))


@given(
    slopes=st.lists(st.integers(1, 50), min_size=2, max_size=60),
    start=st.integers(1, 99),
    share=st.floats(0, 1),
    down=st.booleans(),
)
def test_the_nearest_value_is_found_in_few_looks(slopes: list[int], start: int, share: float, down: bool) -> None:
    counts = [start + sum(slopes[:n]) for n in range(len(slopes))]
    wanted = counts[0] + share * (counts[-1] - counts[0])
    looks: set[int] = set()

    def count(value: int) -> int:
        looks.add(value)
        return counts[-1 - value if down else value]

    found = nearest(range(len(counts)), count, wanted)
    assert abs(found.trainable - wanted) == min(abs(c - wanted) for c in counts)
    assert abs(found.trainable - wanted) <= found.gap / 2
    assert len(looks) <= 20
    for outside in (counts[-1] + 100, counts[0] / 4):
        with pytest.raises(Outside):
            nearest(range(len(counts)), count, outside)


def test_block_sizes_divide_what_they_cut() -> None:
    sides = [(64, 64), (96, 64), (64, 96)]
    assert list(values(KNOBS["oft"], sides, {})) == [2, 4, 8, 16, 32]
    assert list(values(KNOBS["c3a"], sides, {})) == [1, 2, 4, 8, 16, 32]
    assert list(values(KNOBS["hra"], [(5, 9)], {})) == [2, 4]
    assert list(values(KNOBS["gralora"], [(12, 12)], {"gralora_k": 4})) == [4, 8, 12]


def test_what_cannot_be_held_is_refused_by_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in tiny_llama().named_parameters()}
    for name in ("vera", "oft", "lokr", "prompt_tuning"):
        with pytest.raises(ValueError, match="choose at most"):
            methods.build(f"peft:{name}", {}, 0.99, 0, STEPS).capacity(shapes)
        with pytest.raises(ValueError, match="choose a larger fraction"):
            methods.build(f"peft:{name}", {}, 1e-7, 0, STEPS).capacity(shapes)
    with pytest.raises(ValueError, match="token_indices=.*choose some"):
        methods.build("peft:trainable_tokens", {}, None, 0, STEPS)


def test_every_installed_tuner_is_known() -> None:
    """A new release of peft shows here: its new tuners have to be tried, and put into one table or the other."""
    from peft import PeftType

    assert set(known.installed()) == {kind.value.lower() for kind in PeftType}
    assert set(known.installed()) == {*known.WORKING, *known.NOT_WORKING}
    assert set(known.WORKING) == set(KNOBS)


def test_names_are_found_and_reasons_told() -> None:
    assert methods.find("peft:vera").title == "VeRA" and methods.find("peft:vera") is methods.find("peft:vera")
    with pytest.raises(ValueError, match="did you mean peft:vera"):
        methods.find("peft:verra")
    with pytest.raises(ValueError, match="'peft:xlora' does not work: mixes LoRA adapters"):
        methods.find("peft:xlora")
    for name in known.working():
        said = methods.REGISTRY.words(f"peft:{name}", "title", "summary")
        made = methods.find(f"peft:{name}")
        assert said == {"title": made.title, "summary": made.summary}


def test_a_list_names_them_all_without_importing_peft() -> None:
    code = (
        "import sys; from smt_bench.cli.browse import list_; list_('methods'); "
        "print({'torch', 'peft'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    for name in known.installed():
        assert f"  peft:{name} " in done.stdout
    assert "peft:xlora" in done.stdout and "does not work: mixes LoRA adapters" in done.stdout


def test_all_methods_but_those_that_cannot(cli: Cli) -> None:
    asked = ("run", "plateau", "--dry-run", "--preset", "smoke", "--fractions", "1", "--json")
    done = cli(*asked, "--methods", "all", "--set", "peft:ia3.merge=false")
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)}
    left_out = {line.split()[1] for line in done.stderr.splitlines() if line.startswith("note: ")}
    assert {"peft:xlora", "peft:trainable_tokens", "peft:vera"} <= left_out
    assert {*methods.REGISTRY.names(), *methods.REGISTRY.idle()} == {*rows} | left_out and not {*rows} & left_out
    assert TINY.lr("peft:oft") == rows["peft:oft"]["lr"]
    named = cli(*asked, "--methods", "all,peft:vera")
    assert named.returncode == 2 and named.stdout == ""
    assert named.stderr.splitlines()[-1].startswith("error: fraction 1.0000% is more than peft:vera can train")


def test_what_was_left_out_is_in_a_table(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Planner, "method_names", lambda self, default: self._leave_out("peft:xlora", "needs") or ["lora"]
    )
    done = cli("run", "plateau", "--methods", "all", "--preset", "smoke", "--steps", "2", "--limit", "1")
    assert done.returncode == 0, done.stderr
    place = tmp_path / "results" / "plateau" / "tiny"
    told = (place / "left_out.md").read_text()
    assert "| peft:xlora | needs |" in told
    (place / "left_out.md").unlink()
    assert cli("table", "plateau", "--out", "again").returncode == 0
    assert (tmp_path / "again" / "plateau" / "tiny" / "left_out.md").read_text() == told
    assert (
        cli("run", "plateau", "--methods", "lora", "--preset", "smoke", "--steps", "2", "--limit", "1").returncode == 0
    )
    assert (place / "left_out.md").read_text() == told  # the same setting: the same tables
