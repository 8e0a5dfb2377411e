"""Experiment `memory`: exact bytes of a training step.

May be imported by the command line, and other experiments.
"""
