"""What accuracy experiments write: tables by fraction and by task, variants, claims, comparisons, curves.

Imported by the experiments.
"""
