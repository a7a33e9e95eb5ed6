"""Lets the contract suites import the stand-ins of the rooms that they test."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "search")]
