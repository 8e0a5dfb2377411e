"""The audit: do the papers' printed numbers agree with themselves and with the released code, and is the data clean?

`paper` looks at the printed tables and at what is said of them, `collection` at a data folder. Nothing trains or loads a model.
May be imported by the command line.
"""
