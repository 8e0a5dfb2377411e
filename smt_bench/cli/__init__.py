"""The command line: what users ask for, one file per group of commands.

Reads options, refuses bad ones in one line, hands over to experiments and sweeps, and prints. May be imported by nothing but
`smt_bench.__main__`.
"""
