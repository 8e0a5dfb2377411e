"""Every tuner of the installed `peft` that fits a causal language model, as methods `peft:<name>`: one class, made on demand.

known.py      names, titles, and what does not work with its reason; imports neither torch nor peft
knobs.py      what sets each tuner's size and which values it takes: data
sizes.py      trainable numbers of a knob's value, from shapes alone
budget.py     the knob's value for a fraction
options.py    the fields of a peft config as settings
method.py     the class
made.py       the classes by name
"""
