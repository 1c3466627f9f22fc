"""`python -m tests.simulation SEED…`: what happened, shrunk when something broke."""

import sys

from tests.simulation.scenario import scenario
from tests.simulation.shrink import report, shrunk
from tests.simulation.world import simulate


def main(seeds: list[int]) -> int:
    """Print the histories of the seeds; 1: something broke."""
    broken = False
    for seed in seeds:
        found = scenario(seed)
        outcome = simulate(found)
        if outcome.broken is None:
            sys.stdout.write("\n".join((*outcome.history, "nothing broke", "")))
        else:
            broken = True
            sys.stdout.write(report(shrunk(found, outcome.broken.invariant)))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main([int(each) for each in sys.argv[1:]]))
