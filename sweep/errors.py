"""What users see of an error: what was found, what was expected, what to do."""

import os
import sys
from collections.abc import Callable


class SweepError(Exception):
    """Bad input, or a state of the sweep that a user can mend; shown without a traceback."""

    def __init__(self, found: str, expected: str, todo: str) -> None:
        super().__init__(found, expected, todo)  # kept as arguments, so that it pickles between processes

    def __str__(self) -> str:
        found, expected, todo = self.args
        return f"{found}\n  expected: {expected}\n  to do:    {todo}"


class CorruptFile(Exception):
    """A file that exists but cannot be what its writer wrote; ``str`` says which and why."""


def run_main(main: Callable[[], int]) -> None:
    """Run a command's ``main``; an error with words becomes these on stderr and exit status 2, Ctrl-C one and 130."""
    try:
        sys.exit(main())
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except CorruptFile as error:  # where no stage knows better
        restore = "restore it from a copy; before the seal it can be removed and the sweep launched again"
        print(f"error: {SweepError(str(error), 'files as they were written', restore)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output (head, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
