"""SMT, sparse matrix tuning (ICLR 2025): `method` reads first; the other files are its parts.

Pure functions on tensors, layers and hooks: no data, no files, no schedule. May be imported by everything but `machine`.
"""
