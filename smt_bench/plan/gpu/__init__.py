"""Rules for GPUs that are not here: datasheets, a roofline, how bytes divide over several.

Imported by `plan` and the command line.
"""
