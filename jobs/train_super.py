"""`hat-ray train super` as a Ray job: python jobs/train_super.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("train", "super")
