"""`hat-ray train policies` as a Ray job: python jobs/train_policies.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("train", "policies")
