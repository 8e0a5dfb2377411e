"""The embedded testbed: the small model `tiny`, pretrained on a part of an invented world (`data.world`).

Nothing imports it: `models.registry` knows where the weights are.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
