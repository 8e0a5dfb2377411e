"""Experiment `spiel-cost`: SpIEL's table 3.

May be imported by the command line, and other experiments.
"""
