"""Data: families, tasks, records in the LLM-Adapters layout, prompts, batches, the embedded world.

Text in, token ids and labels out; no model. Imported by models (nothing but tokens), training, evaluation, evidence and above.
"""
