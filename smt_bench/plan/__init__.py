"""`plan`: what runs would train, cost and need at any scale, from the real architecture and the real method code.

Needs no weights, no data and no GPU. May be imported by experiments and the command line.
"""
