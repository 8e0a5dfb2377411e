"""`plan claims`: the papers' statements on memory and time, recomputed.

Its values come from dry runs, sharding rules and the roofline. May be imported by experiments and the command line.
"""
