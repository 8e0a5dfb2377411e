"""What the papers' text says of their tables, one statement each.

Imported by `audit.paper`.
"""
