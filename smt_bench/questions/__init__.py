"""From a request to runs: requests, recipes, the planner, and the types of experiment.

Every check that needs no training happens here. It trains nothing and renders nothing. May be imported by plan, execute and
what stands above them.
"""
