"""Experiments on SMT's choices: one table of the paper each, all else equal."""
