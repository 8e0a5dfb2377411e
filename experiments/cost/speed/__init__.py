"""Experiment `speed`: time of a training step, in parts."""
