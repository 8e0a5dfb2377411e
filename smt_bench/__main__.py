"""`python -m smt_bench`, and the console command `smt-bench`."""

import logging
import os


def start() -> None:
    """The command line, after what has to be set before torch is loaded."""
    # Threads that spin while they wait take the cores from those that work: on busy cores a run took eight times as long. Read
    # once, when torch is loaded; who sets it keeps it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Where it is installed, peft loads it, and it advises other packages.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from smt_bench.cli.app import main

    main()


if __name__ == "__main__":
    start()
