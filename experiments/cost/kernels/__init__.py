"""Experiment `kernels`: SMT's pieces one by one.

May be imported by the command line, and other experiments.
"""
