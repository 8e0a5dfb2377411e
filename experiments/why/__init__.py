"""Experiments on why: where gradients and blocks are, whether scores predict benefit."""
