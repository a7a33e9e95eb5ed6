"""`hat-ray latency sweep` as a Ray job: python jobs/latency_sweep.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("latency", "sweep")
