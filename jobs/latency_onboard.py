"""`hat-ray latency onboard` as a Ray job: python jobs/latency_onboard.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("latency", "onboard")
