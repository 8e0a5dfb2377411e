"""What a run is and what is known of it: runs and their keys, records and the folder they live in.

Plain values and files; but for `outcome`, which knows what running out of memory looks like, no heavy library. May be imported
by models, evidence and what stands above them.
"""
