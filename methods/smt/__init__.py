"""SMT, sparse matrix tuning (ICLR 2025): `method` reads first; the other files are its parts."""
