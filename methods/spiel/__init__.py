"""SpIEL (Ansell et al., 2024): `method` reads first; the other files are its parts."""
