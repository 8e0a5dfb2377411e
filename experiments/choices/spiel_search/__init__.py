"""Experiment `spiel-search`: SpIEL's search for settings (appendix D, figure 4, table 4).

May be imported by the command line, and other experiments.
"""
