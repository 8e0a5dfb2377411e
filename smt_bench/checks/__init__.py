"""Checks of a machine by running the product's own code on it: `check gpu`.

Needs no weights, no data, no network, and neither lm-eval nor datasets. May be imported by the command line.
"""
