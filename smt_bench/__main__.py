"""`python -m smt_bench`."""

from smt_bench.cli import main

main()
