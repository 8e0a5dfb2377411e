"""`python -m smt_bench`."""

from smt_bench.cli.app import main

main()
