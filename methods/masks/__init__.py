"""Masks: weights that are chosen once, before tuning, and then train alone. `base` reads first; each method is one file.

Methods on tensors, layers and hooks: no data, no files, no schedule. May be imported by everything but `machine`.
"""
