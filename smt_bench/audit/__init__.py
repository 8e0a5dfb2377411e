"""The audit: do the papers' printed numbers agree with themselves, and is the data clean?

`paper` looks at the printed tables (`results/paper`) and at what the papers' text says of them, `collection` at a data
folder in the LLM-Adapters layout. Nothing here trains or loads a model.
"""
