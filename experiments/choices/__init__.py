"""Experiments on SMT's choices: one table of the paper each, all else equal.

May be imported by the command line, and other experiments.
"""
