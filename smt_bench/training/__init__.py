"""One run's training: the step and its hooks, the loop, the optimizer, checkpoints.

Knows methods by their contract only, and no experiment. May be imported by questions, measuring and what stands above them.
"""
