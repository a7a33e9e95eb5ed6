"""`hat-ray latency measure` as a Ray job: python jobs/measure_latency.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("latency", "measure")
