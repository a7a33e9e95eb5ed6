"""Lets one benchmark import another: `bench_search_replay` holds the search problems."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
