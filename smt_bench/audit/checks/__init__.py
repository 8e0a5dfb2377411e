"""Checks of the printed tables against each other.

One file per kind of check. May be imported by the command line.
"""
