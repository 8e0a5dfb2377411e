"""What a tuning writes: what was found, all trials, the best of so many trials, and held-out loss against each knob.

Reads rows made from records, never a model. May be imported by questions and what stands above them.
"""
