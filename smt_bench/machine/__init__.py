"""The machine: facts about it, what fits on it, its processes, signals, and who watches a run.

The ground floor: imports nothing of this project. Imported by everything.
"""
