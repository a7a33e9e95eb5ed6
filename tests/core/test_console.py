import io
import logging

import pytest

from hat_ray.core import console


@pytest.mark.parametrize(
    ("made", "missing", "seconds", "text"),
    [(10, 20, 30.0, "0:01:00 left"), (1, 3600, 1.0, "1:00:00 left"), (0, 10, 5.0, ""), (10, 0, 5.0, "")],
)
def test_time_left_follows_from_the_speed_so_far(made, missing, seconds, text):
    assert console.time_left(made, missing, seconds) == text


def test_a_log_gets_lines_with_progress_figures_and_time_left(monkeypatch, capsys):
    now = iter([0.0, 1.0, 61.0, 62.0, 125.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    lines = console._Lines("training")
    for done in (100, 300, 310, 40):  # the last one after a loss of workers
        lines(done, 1000, {"tokens_per_s": 1234.5, "loss_bits": 5.25})
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "training 300/1000 tokens_per_s 1234 loss_bits 5.25 0:03:30 left",
        "training 40/1000 tokens_per_s 1234 loss_bits 5.25",
    ]


def test_log_lines_go_to_what_is_stderr_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, root = io.StringIO(), io.StringIO(), logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("hat_ray").level
    try:
        monkeypatch.setattr("sys.stderr", first)
        console.configure_logging(verbose=False)
        logging.getLogger("hat_ray.x").info("one")
        first_lines = first.getvalue()
        first.close()
        monkeypatch.setattr("sys.stderr", second)
        logging.getLogger("hat_ray.x").info("two")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("hat_ray").setLevel(ours)
    assert (first_lines, second.getvalue()) == ("INFO one\n", "INFO two\n")
