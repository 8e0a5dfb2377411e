"""`plan claims`: the papers' statements on memory and time, recomputed.

Imported by the command line.
"""
