"""One architecture timed, whether or not the table has it."""

from hat_ray.latency.detection import device_of
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import write_rows
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.session import TimingSession
from hat_ray.space.architecture import Architecture


def timed_again(job: TimingJob, architecture: Architecture) -> LatencyRow:
    """Time an architecture, append its row to the table and return it."""
    row = TimingSession(job, device_of(job.config, None, job.largest)).time(architecture)
    write_rows(job.table_root, [row])
    return row
