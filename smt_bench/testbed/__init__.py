"""The embedded testbed: an invented world, its tasks, and the small model `tiny` pretrained on a part of it."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
