"""Checks of the printed tables against each other.

Imported by `audit.paper`.
"""
