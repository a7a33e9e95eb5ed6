"""What every quantity holds to: hat-ray's own, and those that another package registers."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from hat_ray.errors import LatencyError, PluginError
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.detection import device_of
from hat_ray.latency.quantities import LATENCY, QUANTITIES, Computed, DeviceProfile, Measured, QuantityFacts, Recorded
from hat_ray.latency.quantity_rows import known_values
from hat_ray.latency.table.row import SCHEMA
from hat_ray.latency.table.table import write_rows
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.latency.timing.sensors.energy import Energy
from hat_ray.latency.timing.session import TimingSession
from hat_ray.latency.timing.statistics import Spread
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.fit import fit_device
from hat_ray.predictor.quantities import fit_quantities, quantity_predictions
from hat_ray.runtime.protocol import RUNTIMES
from hat_ray.space.cost import count_params
from hat_ray.space.genes import GeneCode
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.contracts.foreign_quantities import HEAT, LAYERS

FOREIGN = {"layers": LAYERS, "heat": HEAT}
EVERY = (*QUANTITIES.own_names, *FOREIGN)
SPACE = PRESETS["toy"]
TIMING = LatencyConfig(
    source_length=3,
    target_length=2,
    min_repetitions=5,
    max_repetitions=5,
    calibration_s=0.1,
    budget_s=0.1,
    patience_s=0,
    accelerator="cpu",
    runtime="onnx",
)
SOME = choose_architectures(SPACE, 40, seed=1)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register quantities for these tests only: later ones of this process shall not meet them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QUANTITIES, "_added", dict(FOREIGN))
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TimingJob:
    """A table of 40 rows that know everything."""
    made = TimingJob(SPACE, ModelConfig(), 64, TIMING, Folder.at(tmp_path_factory.mktemp("table")))
    row = TimingSession(made, device_of(TIMING)).time(SPACE.largest())
    rows = []
    for one in SOME:
        ms = 1 + count_params(one) / 1e5
        others = tuple((name, 10 + ms) for name in EVERY if isinstance(QUANTITIES.load(name), Measured))
        rows.append(
            replace(
                row,
                architecture=one,
                total=Spread(ms, ms, 1.1 * ms, ms, 0.0, 1.3 * ms),
                encoder=None,
                decoder=None,
                canary=None,
                energy=Energy(ms / 100, "counter"),
                quantities=tuple(sorted(others)),
            )
        )
    write_rows(made.table_root, rows)
    return made


def profile(job: TimingJob, runtime: str = "onnx", dtype: str = "fp32") -> DeviceProfile:
    return job.profile(replace(device_of(TIMING), runtime=runtime, dtype=dtype))


@pytest.mark.parametrize("name", EVERY)
def test_its_facts_are_words_for_a_line(name: str) -> None:
    facts = QUANTITIES.facts(name)
    assert facts == QUANTITIES.load(name).facts
    for text in (facts.title, facts.unit):
        assert text == text.strip()
        assert text
        assert "\n" not in text


@pytest.mark.parametrize("name", EVERY)
def test_each_device_has_it_or_a_line_tells_why_not(name: str, job: TimingJob) -> None:
    quantity = QUANTITIES.load(name)
    for runtime in RUNTIMES.own_names:
        for dtype in RUNTIMES.facts(runtime).dtypes:
            reason = quantity.unavailable(profile(job, runtime, dtype)) if quantity.unavailable else None
            assert reason is None or (reason and "\n" not in reason)
    if not isinstance(quantity, Computed):
        assert quantity.remedy
        assert "\n" not in quantity.remedy


@pytest.mark.parametrize("name", EVERY)
def test_it_is_predicted_as_a_search_asks(name: str, job: TimingJob) -> None:
    slug = device_of(TIMING).slug
    config = PredictorConfig()
    latency = fit_device(job, slug, config, 1, ())
    found = quantity_predictions([name], profile(job), fit_quantities(job, latency, [name], config, 1))[name]
    code = GeneCode(SPACE)
    decoded = code.decoded(code.canonical(code.random_rows(500, np.random.default_rng(0))))
    many = found.predict(decoded)
    assert many.shape == (len(decoded),)
    assert np.isfinite(many).all()
    assert (many > 0).all()
    np.testing.assert_allclose(many[:20], [found.predict([decoded[place]])[0] for place in range(20)], rtol=1e-6)
    np.testing.assert_allclose(many[:20], found.predict([decoded[place] for place in range(20)]), rtol=1e-6)
    low, high = found.interval(decoded)
    assert ((low <= many * (1 + 1e-9)) & (many <= high * (1 + 1e-9))).all()
    assert (found.predict(decoded, 0.95) >= many * (1 - 1e-9)).all()


@pytest.mark.parametrize("name", [LATENCY, "p90_ms", "energy_j"])
def test_what_a_timing_records_stands_in_numbers_of_the_table(name: str, job: TimingJob) -> None:
    quantity = QUANTITIES.load(name)
    assert isinstance(quantity, Recorded)
    for column in quantity.columns:
        assert pa.types.is_floating(SCHEMA.field(column).type)
    unknown = quantity.read(*(np.full(3, np.nan) for _ in quantity.columns))
    assert np.isnan(unknown).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_table_keeps_it(name: str, job: TimingJob) -> None:
    if isinstance(QUANTITIES.load(name), Computed):
        return
    known = known_values(job.table_root, SPACE.id, device_of(TIMING).slug, job.protocol.workload, [name])[name]
    assert set(known) == set(SOME)
    assert all(value > 0 for value in known.values())


@pytest.mark.parametrize("name", ["peak_mb", "heat"])
def test_what_is_measured_twice_is_nearly_the_same(name: str, job: TimingJob) -> None:
    quantity = QUANTITIES.load(name)
    assert isinstance(quantity, Measured)
    first, second = (quantity.measure(SOME[0], profile(job)) for _ in range(2))
    assert first is not None
    assert second == pytest.approx(first, rel=0.05)


def test_a_name_that_nobody_registered_is_refused_with_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"^search\.limits knows no 'peek_mb'; did you mean peak_mb\?"):
        QUANTITIES.require("peek_mb")
    assert QUANTITIES.require(LATENCY) == LATENCY


def test_what_is_no_quantity_or_reads_no_column_is_refused_in_one_line(job: TimingJob) -> None:
    with pytest.raises(PluginError, match=r"^search\.limits wrong is no such plug-in: it lacks facts, unavailable$"):
        QUANTITIES.add("wrong", object())  # type: ignore[arg-type]
    QUANTITIES.add("speed", Recorded(QuantityFacts("speed", "1/s"), ("words_per_s",), lambda column: column, "none"))
    with pytest.raises(LatencyError, match=r"^speed reads words_per_s, which the latency table lacks: make it"):
        TimingSession(replace(job, bounded=(("", ("speed",)),)), device_of(TIMING))
