"""Models: which there are, where their files come from, how they are built, loaded and merged.

Only safetensors weights, never remote code. May be imported by training, evaluation, report and what stands above them.
"""
