"""Experiments on why: where gradients and blocks are, whether scores predict benefit.

May be imported by the command line, and other experiments.
"""
