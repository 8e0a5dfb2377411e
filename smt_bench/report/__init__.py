"""Tables, figures and the sentences below them.

Reads records and evidence, never a model. May be imported by questions, measuring and what stands above them.
"""
