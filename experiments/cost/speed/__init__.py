"""Experiment `speed`: time of a training step, in parts.

May be imported by the command line, and other experiments.
"""
