"""Experiment `memory`: exact bytes of a training step."""
