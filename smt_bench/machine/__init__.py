"""The machine: facts about it, what fits on it, its processes and files, signals, and who watches a run.

The ground floor: imports nothing of this project. May be imported by everything else.
"""
