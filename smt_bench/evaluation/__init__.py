"""How a trained model is judged: protocols, lm-eval, the held-out log-likelihood.

A model comes in, plain JSON goes out. Imported by `execute`, by `questions` (names and versions of protocols) and by experiments
that measure.
"""
