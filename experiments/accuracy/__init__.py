"""Experiments on accuracy by method and trainable fraction, and the rates they rest on.

May be imported by the command line, and other experiments.
"""
