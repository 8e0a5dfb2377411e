"""What records say: cells, intervals, comparisons, the papers' numbers, claims and verdicts.

Numbers in, numbers and words out; draws and writes nothing. May be imported by training, evaluation, report and what stands
above them.
"""
