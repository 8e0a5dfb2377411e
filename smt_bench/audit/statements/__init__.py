"""What the papers' text and their released code say, one statement each.

One file per source. May be imported by the command line.
"""
