"""Experiments on accuracy by method and trainable fraction, and the rates they rest on."""
