"""`python -m smt_bench`."""

import logging
import os

# Threads that spin while they wait take the cores from those that work: on busy cores a run took eight times as long. Read once,
# when torch is loaded; who sets it keeps it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

logging.getLogger("bitsandbytes").setLevel(
    logging.ERROR
)  # where it is installed, peft loads it, and it advises other packages

from smt_bench.cli.app import main  # noqa: E402

main()
