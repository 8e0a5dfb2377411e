"""What records say: cells, intervals, comparisons, the papers' numbers, claims and verdicts.

Numbers in, numbers and words out; draws and writes nothing. Imported by `report`, `plan`, `audit` and the experiments.
"""
