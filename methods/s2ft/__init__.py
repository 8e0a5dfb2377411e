"""S2FT (Yang et al., 2024): `method` reads first; `structures` says which rows and columns belong together.

Pure functions on tensors, layers and hooks: no data, no files, no schedule. May be imported by everything but `machine`.
"""
