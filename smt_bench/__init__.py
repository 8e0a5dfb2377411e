"""smt-bench: re-runs every table and figure of SMT (ICLR 2025) and SpIEL (2024) and compares the methods fairly."""

__version__ = "0.2.0"
