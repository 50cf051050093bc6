"""The contestant's side: it trains without end, and between blocks of steps it waits to be asked for the next.

After the warm-up and after each line ``go N`` on its standard input it answers with one line of JSON: the CPU
seconds, user and system of all threads, of the steps since it was asked.
"""

import json
import os
import sys
import time

WARM_STEPS = 12  # more than the eight recompilations after which torch.compile gives up


class Turns:
    def __init__(self, num_threads: int) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print must not come between the answers
        self._num_threads = num_threads
        self._left = WARM_STEPS
        self._start = time.process_time()

    def step_done(self) -> None:
        """To be called after every step: answers and waits when it was the last of its block."""
        self._left -= 1
        if self._left:
            return
        cpu_seconds = time.process_time() - self._start
        self._answers.write(json.dumps({"cpu_seconds": cpu_seconds, "num_threads": self._num_threads}) + "\n")
        self._answers.flush()
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # nobody asks any more; the training has no end of its own
        self._left = int(line.split()[1])
        self._start = time.process_time()
