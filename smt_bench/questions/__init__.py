"""From a request to runs: requests, recipes, the planner, and the types of experiment.

Every check that needs no weights happens here. Imported by the experiments, by `plan` and by the command line; it trains
nothing and renders nothing.
"""
