"""Cost: exact bytes, floating-point operations, steps of several methods timed in turns.

Instruments the training step instead of repeating it. May be imported by plan, execute and what stands above them.
"""
