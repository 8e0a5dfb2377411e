"""Data: families, tasks, records in the LLM-Adapters layout, prompts, batches, the embedded world.

Text in, token ids and labels out; no model. May be imported by models, evidence and what stands above them.
"""
