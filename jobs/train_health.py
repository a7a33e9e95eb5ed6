"""`hat-ray train health` as a Ray job: python jobs/train_health.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("train", "health")
