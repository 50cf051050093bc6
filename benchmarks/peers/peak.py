"""Contestant: products of large fp32 matrices on one thread, the most that a core gives to a matrix product."""

import torch

from benchmarks.peers.turns import Turns

SIZE = 2048


def main() -> None:
    torch.set_num_threads(1)
    turns = Turns(torch.get_num_threads())
    a, b, out = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE), torch.empty(SIZE, SIZE)
    while True:
        torch.matmul(a, b, out=out)
        turns.step_done()


if __name__ == "__main__":
    main()
