"""Rules for GPUs that are not here: datasheets, a roofline, how bytes divide over several.

Every rule states its source. May be imported by experiments and the command line.
"""
