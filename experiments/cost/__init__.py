"""Experiments on cost: time, memory, kernels, and when a warm-up is paid for."""
