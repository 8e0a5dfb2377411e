"""Experiments on cost: time, memory, kernels, and when a warm-up is paid for.

May be imported by the command line, and other experiments.
"""
