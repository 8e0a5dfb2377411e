"""Many runs: which are missing, who does which, what happens when a process dies, workers, clusters.

Knows a run by its key and its record; how one is carried out is handed in. May be imported by the command line.
"""
