"""Who trains in a folder: whoever came last. The one before notices at its next checkpoint, and ends.

Decisions
- Not a lock: a killed driver leaves workers that live on for seconds, and a node that the network lost may live on for
  hours. A lock would make the next training wait for them, or need a time after which it counts as forgotten.
- So the newest owner wins at once. Each writes its token into `owner.json`; before a checkpoint is published, and
  before old ones are deleted, the token must still stand there.
- Two trainings that are started by mistake cost nothing but time: the second resumes from what the first has saved.
"""

import json
import os
import platform
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from hat_ray.errors import CheckpointError
from hat_ray.storage import Folder

OWNER = "owner.json"


class TakenOverError(CheckpointError):
    """Another training works in this one's folder."""


@dataclass(frozen=True)
class Claim:
    """The right to write into the folder of a training, until somebody else claims it."""

    folder: Folder
    token: str

    @classmethod
    def stake(cls, folder: Folder) -> "Claim":
        """Take the folder, from whoever has it."""
        claim = cls(folder, uuid.uuid4().hex)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        owner = {"token": claim.token, "host": platform.node(), "process": os.getpid(), "since": now}
        folder.write_json(OWNER, owner)
        return claim

    def check(self) -> None:
        """Raise TakenOverError when the folder is another's now."""
        try:
            owner = self.folder.read_json(OWNER)
            if owner["token"] == self.token:
                return
            who = f"process {owner['process']} on {owner['host']}, since {owner['since']}"
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            who = "somebody who is done already"
        raise TakenOverError(
            f"one training at a time may work in {self.folder}; it was taken over by {who}: "
            "this one ends, and the other one goes on from what it has saved"
        )

    def release(self) -> None:
        """Leave the folder, if it is still ours."""
        try:
            self.check()
        except TakenOverError:
            return
        self.folder.delete(OWNER)
