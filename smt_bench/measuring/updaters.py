"""The optimizers that steps are measured under: training's, and one without master copies."""

from __future__ import annotations

from torch import nn

from smt_bench.training.optimizer import TorchUpdater


class PureUpdater(TorchUpdater):
    """No master copies: bf16 parameters have bf16 moments. What a method installs in float32 stays so."""

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        return parameter


# By the type of the optimizer's state for the model's own weights.
UPDATERS: dict[str, type[TorchUpdater]] = {"fp32": TorchUpdater, "bf16": PureUpdater}
