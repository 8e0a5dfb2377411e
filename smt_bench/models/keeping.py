"""What a run leaves behind of what it trained: kept where that was asked for, and in any case how large it is."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smt_bench.methods.base import Method
from smt_bench.models.adapters import ABOUT, FILE, FORMAT, OVER_NF4, base_of, changed, difference, open_up
from smt_bench.models.locate import Located
from smt_bench.models.merging import merge
from smt_bench.models.quantized import is_quantized, make_whole
from smt_bench.models.unpack import pack
from smt_bench.records.files import BenchWarning
from smt_bench.records.runs import Run

DTYPES = {  # as safetensors calls them
    "torch.float64": "F64", "torch.int64": "I64", "torch.float32": "F32", "torch.int32": "I32", "torch.bfloat16": "BF16",
    "torch.float16": "F16",
}  # fmt: skip


class Keeping:
    """Writes one run's adapter, whole or not at all, or where nothing is kept finds out how large it would be.

    What goes wrong here is a warning: the run has its result.

    Args:
        run: the run.
        located: its base.
        root: adapters go to `root/KEY`; None: nothing is kept.
    """

    def __init__(self, run: Run, located: Located, root: Path | None) -> None:
        self.run, self.located, self.root = run, located, root
        self._place: Path | None = None
        self._own: int | None = None

    def before_merge(self, method: Method, model: Any) -> None:
        """Lets the method write its own format, if it has one and other programs know the layers that it names.

        They do not know those that `unpack` made; virtual tokens name none.
        """
        rewritten = model.smt_bench_unpacked.apart or model.smt_bench_unpacked.transposed
        if rewritten and method.config.layers:
            return
        try:
            self._own = method.save(model, self._folder())
        except Exception as error:  # a library's, or the disk's: the result matters more
            self._warn(error)

    def after(self, method: Method, model: Any) -> dict[str, Any] | None:
        """The rest, once the model has been judged; it is of no use afterwards.

        Over a base of 4 bits what has no format of its own is merged now, in main memory: what is kept are its changes of the
        dequantized base.

        Returns:
            `format` ("peft" or "difference"), `bytes` of the files and `numbers` in them; None, with a warning, where there is
            none: what was judged unmerged and has no format of its own is in no difference from the base.
        """
        try:
            if self._own is None and not method.merges:
                raise RuntimeError(f"{method.name} was not merged and has no format of its own")
            if self._own is None and is_quantized(model):
                if self.root is None:  # merging takes a whole model, which nobody has asked for
                    return None
                make_whole(model, torch.device("cpu"))
                merge(method, model)
            if self._own is None:
                size, numbers = self._difference(model)
            else:
                assert self._place is not None
                numbers, size = self._own, sum(p.stat().st_size for p in self._place.iterdir())
            kind = "difference" if self._own is None else "peft"
            if self.root is not None:
                self._publish(self.root / self.run.key, kind)
            return {"format": kind, "bytes": size, "numbers": numbers}
        except Exception as error:
            self._warn(error)
            return None

    def drop(self) -> None:
        """Leaves nothing half-written."""
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _warn(self, error: BaseException) -> None:
        if self.root is not None:
            why = " ".join(str(error).split())[:160] or type(error).__name__
            warnings.warn(f"the adapter of {self.run.key} is not kept: {why}", BenchWarning, stacklevel=3)

    def _difference(self, model: Any) -> tuple[int, int]:
        """Bytes and numbers of the difference from the base; written where it is kept."""
        from safetensors.torch import save_file

        base = self.located.ref
        metadata = {
            "format": OVER_NF4 if self.run.train.base else FORMAT, "base": base.name, "revision": base.revision,
            "key": self.run.key, "precision": self.run.train.precision, "method": json.dumps(self.run.to_dict()["method"]),
        }  # fmt: skip
        trained = pack(model).state_dict()
        before = base_of(self.located, self.run.train.precision, trained, self.run.train.base)
        if self.root is None:
            return measured(changed(trained, before), metadata, trained)
        place, whole = self._folder(), difference(trained, before)
        save_file(whole, place / FILE, metadata=metadata | {"shapes": shapes(whole, trained)})
        numbers = sum(t.numel() for name, t in whole.items() if not name.endswith(".indices"))
        return (place / FILE).stat().st_size, numbers

    def _folder(self) -> Path:
        if self.root is not None:
            self.root.mkdir(parents=True, exist_ok=True)
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{self.run.key}."))
        return self._place

    def _publish(self, place: Path, kind: str) -> None:
        assert self._place is not None
        base = self.located.ref
        said = {"format": kind, "key": self.run.key, "base": base.name, "revision": base.revision}
        said["precision"] = self.run.train.precision
        if self.run.train.base:
            said["weights"] = self.run.train.base
        (self._place / ABOUT).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # of a run that was killed before its record was written
        open_up(self._place)
        self._place.rename(place)


def shapes(entries: Iterable[str], trained: Mapping[str, Tensor]) -> str:
    """The shapes of the parameters that these entries of a file change, as JSON for its metadata."""
    names = sorted({entry.rpartition(".")[0] for entry in entries})
    return json.dumps({name: list(trained[name].shape) for name in names})


def measured(
    tensors: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str], trained: Mapping[str, Tensor]
) -> tuple[int, int]:
    """Bytes that a safetensors file of these would have, and trained numbers in it; nothing is written or gathered."""
    parts = [
        (name, DTYPES[str(t.dtype)], list(t.shape), t.numel() * t.element_size(), t.element_size())
        for name, t in tensors
    ]
    parts.sort(key=lambda part: (-part[4], part[0]))  # as safetensors does, so that offsets are the same
    header: dict[str, Any] = {"__metadata__": {**metadata, "shapes": shapes((part[0] for part in parts), trained)}}
    end = 0
    for name, dtype, shape, size, _ in parts:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    numbers = sum(size // width for name, _, _, size, width in parts if not name.endswith(".indices"))
    return 8 + -(-text // 8) * 8 + end, numbers
