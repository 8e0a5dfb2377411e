"""What a run is and what is known of it: runs and their keys, records and the folder they live in.

Plain values and files; imports no heavy library, so that `status` and `show` are quick. Imported by everything above.
"""
