"""One run's training: the step and its hooks, the loop, the optimizer, checkpoints.

Knows methods by their contract only, and no experiment. Imported by `execute`, by `measuring` and by experiments that measure.
"""
