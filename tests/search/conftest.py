"""Lets the tests of this folder import what they share: `search_stand_ins`, `search_driver`, `bench_search_replay`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "benchmarks")]
