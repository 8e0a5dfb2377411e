"""What accuracy experiments write: tables by fraction and by task, variants, claims, comparisons, curves.

Reads records and evidence, never a model. May be imported by questions, measuring and what stands above them.
"""
