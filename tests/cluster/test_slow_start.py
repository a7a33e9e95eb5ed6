"""A cluster of this machine starts although its processes need longer than Ray waits for them."""

import inspect
import logging

import pytest
import ray._private.node

from hat_ray.cluster import session
from hat_ray.errors import StorageError


def begins_after(failures: int, message: str, done: list[str]) -> None:
    done.append("begun")
    if len(done) <= failures:
        raise Exception(message)


def test_ray_is_started_again_where_its_processes_were_too_slow(caplog: pytest.LogCaptureFixture):
    message = f"The current node {session.SLOW_START}. This could happen"
    assert session.SLOW_START in inspect.getsource(ray._private.node)
    done: list[str] = []
    with caplog.at_level(logging.WARNING):
        session.patiently(lambda: begins_after(2, message, done))
    assert len(done) == 3
    assert caplog.text.count("they are started again") == 2


def test_a_machine_that_stays_too_busy_and_other_faults_are_reported():
    done: list[str] = []
    with pytest.raises(StorageError, match="within 2 times 30 s: this machine is too busy"):
        session.patiently(lambda: begins_after(9, session.SLOW_START, done), tries=2)
    assert len(done) == 2
    with pytest.raises(Exception, match="no space"):
        session.patiently(lambda: begins_after(9, "no space", done))
    assert len(done) == 3
