"""How a trained model is judged: protocols, lm-eval, the held-out log-likelihood.

A model comes in, plain JSON goes out. May be imported by questions, measuring and what stands above them.
"""
