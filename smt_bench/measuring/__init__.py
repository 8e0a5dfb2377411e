"""Cost: exact bytes, floating-point operations, steps of several methods timed in turns.

Instruments the training step instead of repeating it. Imported by `plan` and by the experiments that measure.
"""
