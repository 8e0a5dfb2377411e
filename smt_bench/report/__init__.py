"""Tables, figures and the sentences below them.

Reads records and evidence, never a model. Imported by the experiments, `plan` and `audit`.
"""
