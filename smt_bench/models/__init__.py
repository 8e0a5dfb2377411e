"""Models: which there are, where their files come from, how they are built and loaded.

Only safetensors weights, never remote code. Imported by training, evaluation, questions, plan, measuring and the experiments.
"""
