"""`plan`: what runs would train, cost and need at any scale, from the real architecture and the real method code."""
