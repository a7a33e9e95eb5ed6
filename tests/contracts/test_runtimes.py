"""What every runtime holds to: hat-ray's own, and one that another package registers."""

import os
import random
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.export.export import exporter_of, open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.beam import beam_search
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import EOS, UNK, BeamSettings, Engine, WholeEngine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.pipeline.preflight.all import examine_all
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.pipeline.preflight.table import failures
from hat_ray.recipe import load_recipe
from hat_ray.runtime.eager import EagerRuntime
from hat_ray.runtime.protocol import (
    RUNTIMES,
    Bounds,
    Isa,
    RuntimeSettings,
    exporting,
    load_engine,
    register_runtime,
    require_runtime,
    why_unsupported,
)
from hat_ray.runtime.space import restrictions
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.exporting import export_model
from tests.runtime.models import ARCHITECTURES, NETWORKS, VOCAB, a_model

PLAIN = Architecture(
    EncoderShape(48, (80, 33, 64), (4, 4, 4)), DecoderShape(24, (40, 96), (2, 2), (2, 2), (1, 1)), qkv_dim=32
)
"""What every runtime can express: one number of heads a side, attention to the last encoder layer."""
ARITHMETIC = [(name, dtype) for name in RUNTIMES.own_names for dtype in RUNTIMES.facts(name).dtypes]
LONGEST = 12
ENDS_EARLY = 32
"""A seed whose model ends most of its translations after a word or two."""
WORSE = {"fp32": 1e-3, "bf16": 0.15, "int8": 0.15}
"""How much less probable than eager's own translations those of a dtype may be: nats a token, on average."""


def here(runtime: str, dtype: str = "fp32") -> None:
    """Skip where this machine cannot run it; the reason names what is missing."""
    if reason := why_unsupported(runtime, RuntimeSettings(dtype)):
        pytest.skip(reason)


def sentences(count: int = 16) -> list[list[int]]:
    draw = torch.Generator().manual_seed(7)
    return [[*torch.randint(4, VOCAB, (4 + row % 5,), generator=draw).tolist(), EOS] for row in range(count)]


@torch.inference_mode()
def translations(engine: Engine, beam: int = 3) -> list[list[int]]:
    if isinstance(engine, WholeEngine):
        return engine.translate(sentences(), BeamSettings(beam, 1.0, LONGEST))
    found = beam_search(engine, pad_sources(sentences()), beam=beam, length_penalty=1.0, max_length=LONGEST)
    return [[token for token in best[0].tokens if token != EOS] for best in found]


@torch.inference_mode()
def merit(model: SubTransformer, found: list[list[int]]) -> torch.Tensor:
    """Return what beam search orders by, in the model's own fp32: log-probability by token."""
    scores = []
    for source, target in zip(sentences(), found, strict=True):
        fed, wanted = torch.tensor([[EOS, *target]]), torch.tensor([[*target, EOS]])
        logs = model(torch.tensor([source]), fed).log_softmax(-1).gather(2, wanted[:, :, None])
        scores.append(float(logs.sum()) / (len(target) + 1))
    return torch.tensor(scores)


@pytest.mark.parametrize(("runtime", "dtype"), ARITHMETIC)
def test_it_translates_like_eager(runtime: str, dtype: str) -> None:
    here(runtime, dtype)
    model = a_model(PLAIN)
    expected = translations(load_engine(deepcopy(model), "eager", RuntimeSettings()))
    found = translations(load_engine(deepcopy(model), runtime, RuntimeSettings(dtype)))
    assert len({tuple(one) for one in expected}) > 5, "the model says the same of everything: nothing is compared"
    assert float((merit(model, expected) - merit(model, found)).mean()) <= WORSE[dtype]
    if dtype == "fp32":
        assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 15


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
def test_it_answers_whatever_it_is_asked(runtime: str) -> None:
    on = RUNTIMES.load(runtime)
    shapes = [None, PLAIN, *ARCHITECTURES.values()]
    answers = [
        on.unsupported(shape, RuntimeSettings(dtype, device, timed=timed), isa, config)
        for shape in shapes
        for config in (None, ModelConfig(activation="swish", positions="learned"))
        for dtype in ("fp32", "bf16", "int8", "fp7", "")
        for device in ("cpu", "meta", "tpu:3")
        for timed in (False, True)
        for isa in (("avx2",), ("asimd",), ())
    ]
    for answer in answers:
        assert answer is None or (answer and "\n" not in answer)
    for network in ({}, *NETWORKS.values()):
        assert on.unsupported(PLAIN, RuntimeSettings(), ("avx2",), ModelConfig.model_validate(network)) is None
    assert "fp7" in (on.unsupported(None, RuntimeSettings("fp7"), ("avx2",)) or "")
    assert "tpu" in (on.unsupported(None, RuntimeSettings(device="tpu:3"), ("avx2",)) or "")


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_it_does_not_refuse_it_executes_rightly(runtime: str, name: str) -> None:
    here(runtime)
    model, settings = a_model(ARCHITECTURES[name]), RuntimeSettings()
    if why_unsupported(runtime, settings, model.architecture):
        with pytest.raises(HatRayError, match="cannot express architecture"):
            load_engine(model, runtime, settings)
        return
    expected, found = (translations(one, beam=1) for one in (deepcopy(model), load_engine(model, runtime, settings)))
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 15  # one beam: no two searches differ


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
def test_it_passes_over_the_unknown_word_where_the_network_has_none(runtime: str) -> None:
    here(runtime)
    found = []
    for allowed in (True, False):
        model = a_model(PLAIN, output_bias=True, unknown_words=allowed)
        with torch.no_grad():
            model.decoder.output_bias[UNK] = 6.0
        found.append(translations(load_engine(deepcopy(model), runtime, RuntimeSettings()), beam=1))
        expected = translations(model, beam=1)
        assert sum(a == b for a, b in zip(expected, found[-1], strict=True)) >= 15
    assert any(UNK in one for one in found[0]), "nothing to pass over"
    assert not any(UNK in one for one in found[1])


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
def test_an_unknown_dtype_is_refused_in_one_line(runtime: str) -> None:
    here(runtime)
    with pytest.raises(HatRayError, match=rf"^runtime {runtime} computes in fp32 or \w+, got dtype fp7: take one of"):
        require_runtime(runtime, RuntimeSettings("fp7"))


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES.own_names if RUNTIMES.facts(name).packages])
def test_a_missing_library_is_named_in_one_line(runtime: str) -> None:
    code = """
import sys
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, require_runtime
for package in RUNTIMES.facts(sys.argv[1]).packages:
    sys.modules[package] = None
try:
    require_runtime(sys.argv[1], RuntimeSettings())
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, runtime], capture_output=True, text=True, timeout=240, check=True
    )
    packages = RUNTIMES.facts(runtime).packages
    told = f"HatRayError runtime {runtime} needs {' and '.join(packages)}: pip install {' '.join(packages)}"
    assert done.stdout.splitlines() == [told], done.stderr


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
def test_it_leaves_the_process_its_threads(runtime: str) -> None:
    here(runtime)
    before = torch.get_num_threads()
    engine = load_engine(a_model(PLAIN), runtime, RuntimeSettings(threads=2))
    translations(engine)
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in Linux's /proc")
def test_a_pool_of_its_own_has_the_threads_that_were_asked_for() -> None:
    code = """
import os
from tests.contracts.test_runtimes import PLAIN, translations
from tests.runtime.models import a_model
from hat_ray.runtime.protocol import RuntimeSettings, load_engine, why_unsupported
def more(runtime, threads):
    before = len(os.listdir("/proc/self/task"))
    engine = load_engine(a_model(PLAIN), runtime, RuntimeSettings(threads=threads))
    translations(engine)
    return len(os.listdir("/proc/self/task")) - before, engine
for runtime in ("onnx", "ctranslate2"):
    if not why_unsupported(runtime, RuntimeSettings()):
        first, *pools = [more(runtime, threads) for threads in (1, 1, 4)]  # the first starts what a library has once
        assert pools[1][0] - pools[0][0] >= 2, (runtime, [added for added, _ in pools])
        print(runtime)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "onnx" in done.stdout


@pytest.mark.parametrize(("runtime", "dtype"), ARITHMETIC)
def test_it_names_its_libraries_and_its_arithmetic(runtime: str, dtype: str) -> None:
    here(runtime)
    on = RUNTIMES.load(runtime)
    assert {"torch", *RUNTIMES.facts(runtime).packages} - {"onnx"} <= set(on.versions())
    assert on.facts == RUNTIMES.facts(runtime)
    assert on.arithmetic(dtype)
    assert on.facts.exports == (on.exporter is not None)


class RectifiedRuntime(EagerRuntime):
    """A runtime for networks with rectifiers alone."""

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: ModelConfig | None = None,
    ) -> str | None:
        if config is not None and config.activation != "relu":
            return f"runtime rectified computes model.activation relu, got {config.activation}: take runtime eager"
        return super().unsupported(architecture, settings, isa, config)


def test_a_runtime_sees_the_network_that_it_is_to_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUNTIMES, "_added", {})  # later tests of this process shall not meet it
    register_runtime("rectified", RectifiedRuntime())
    assert load_engine(a_model(PLAIN), "rectified", RuntimeSettings())
    with pytest.raises(HatRayError, match=r"computes model\.activation relu, got swish: take runtime eager"):
        load_engine(a_model(PLAIN, activation="swish"), "rectified", RuntimeSettings())
    recipe = load_recipe("toy", ["latency.runtime=rectified", "model.activation=gelu"])
    found = failures(examine_all(recipe, situation_here(recipe, None, only="latency", local=True)))
    assert any("got gelu" in one for one in map(str, found))


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
@pytest.mark.parametrize("preset", ["toy", "space0", "space1", "deep-shallow"])
def test_it_can_express_the_whole_space_that_is_restricted_to_it(runtime: str, preset: str) -> None:
    space = PRESETS[preset]
    space = space.replaced(**restrictions(space.choices, runtime))
    assert restrictions(space.choices, runtime) == {}
    on, rng = RUNTIMES.load(runtime), random.Random(3)
    for shape in (space.smallest(), space.largest(), *(space.sample(rng) for _ in range(50))):
        assert on.unsupported(shape, RuntimeSettings(), ("avx2",)) is None


@pytest.mark.parametrize("length", [1, 2, 9])
def test_a_search_of_its_own_ends_at_the_length_that_a_timing_asks_for(length: int) -> None:
    here("ctranslate2")
    engine = load_engine(a_model(PLAIN, seed=ENDS_EARLY), "ctranslate2", RuntimeSettings())
    assert isinstance(engine, WholeEngine)
    assert min(map(len, translations(engine))) < 9
    found = engine.translate(sentences(), BeamSettings(3, 1.0, LONGEST), exact_length=length)
    assert {len(one) for one in found} == {length}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    place = tmp_path_factory.mktemp("corpus")
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=20)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(place), seed=1)
    return Corpus.load(Folder.at(place))


@pytest.mark.parametrize("runtime", exporting())
def test_what_it_exports_opens_again_and_translates_like_the_runtime_itself(
    runtime: str, corpus: Corpus, tmp_path: Path
) -> None:
    here(runtime)
    config = EvaluateConfig(beam=2, sentences=8, max_length_factor=0, max_length_extra=15)
    model, lines = a_model(PLAIN, vocab=corpus.vocabularies.sizes[0]), [*corpus.test.source_text[:10], ""]
    assert set(exporter_of(runtime).bounds) == set(RUNTIMES.facts(runtime).dtypes)
    made = export_model(deepcopy(model), corpus, tmp_path / "out", "fp32", config, Bounds(None, 100), runtime=runtime)
    assert made.parity.logit_error < 1e-3
    engine = load_engine(model, runtime, RuntimeSettings())
    expected = LoadedModel(engine, corpus.vocabularies, config, runtime, "fp32").translate(lines)
    assert len(set(expected)) > 3
    assert open_export(tmp_path / "out").translate(lines) == expected
    alone = subprocess.run(
        [sys.executable, str(tmp_path / "out" / "translate.py")],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert alone.stdout.split("\n")[:-1] == expected


TWIN = '''
"""A runtime from outside: eager under another name."""

from hat_ray.runtime.base import BaseRuntime
from hat_ray.runtime.protocol import RuntimeFacts


class Twin(BaseRuntime):
    name, facts = "twin", RuntimeFacts({"fp32": "none"}, packages=("numpy",))

    def load(self, model, settings):
        return model.eval()

    def versions(self):
        return {**super().versions(), "twin": "0.3"}


TWIN = Twin()
'''


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder as `pip install` leaves it: a package of one file, and a broken one, each with its entry point."""
    site = tmp_path / "site"
    for name, text in (("twin", TWIN), ("broken", "import there_is_no_such_library")):
        info = site / f"{name}_runtime-0.3.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}_runtime.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-runtime\nVersion: 0.3\n")
        (info / "top_level.txt").write_text(f"{name}_runtime\n")
        (info / "entry_points.txt").write_text(f"[hat_ray.runtimes]\n{name} = {name}_runtime:{name.upper()}\n")
    return site


def with_packages(site: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.getcwd()])}
    settings = {"capture_output": True, "text": True, "timeout": 240, "env": environment}
    return subprocess.run([sys.executable, *command], check=False, **settings)


def test_a_runtime_of_another_package_is_timed_and_translated_with(packages: Path, tmp_path: Path) -> None:
    code = """
import sys
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.table.table import read_table
from hat_ray.latency.here import measure
from hat_ray.latency.timing.job import TimingJob, choose_architectures
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.rows import read_rows
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from hat_ray.space.presets import PRESETS
from hat_ray.storage.folder import Folder
from tests.contracts.test_runtimes import PLAIN, translations
from tests.latency.test_onnx_timing import QUICK
from tests.runtime.models import a_model
config = LatencyConfig.model_validate({**QUICK, "accelerator": "cpu", "runtime": "twin"})
job = TimingJob(PRESETS["toy"], ModelConfig(), 64, config, Folder.at(sys.argv[1]))
assert measure(job, choose_architectures(PRESETS["toy"], 2, seed=0)).timed == 2
[slug] = {row.device.slug for row in read_table(sys.argv[1])}
assert slug.endswith("-1t-twin-fp32"), slug
assert {dict(row.context.library_versions)["twin"] for row in read_table(sys.argv[1])} == {"0.3"}
assert len(read_rows(sys.argv[1], PRESETS["toy"].id, slug)) == 2
ours, theirs = (translations(load_engine(a_model(PLAIN), name, RuntimeSettings())) for name in ("eager", "twin"))
assert ours == theirs
"""
    done = with_packages(packages, "-c", code, str(tmp_path / "table"))
    assert done.returncode == 0, done.stderr


def test_a_recipe_names_it_and_a_broken_one_is_named_in_one_line(packages: Path) -> None:
    code = """
import sys
from hat_ray.errors import HatRayError
from hat_ray.pipeline.preflight.all import examine_all
from hat_ray.pipeline.preflight.here import situation_here
from hat_ray.pipeline.preflight.table import failures
from hat_ray.recipe import load_recipe
recipe = load_recipe("toy", ["latency.runtime=twin"])
assert not failures(examine_all(recipe, situation_here(recipe, None, only="latency", local=True)))
for change in sys.argv[1:]:
    try:
        load_recipe("toy", [change])
    except HatRayError as error:
        print(error)
"""
    wrong = {
        "latency={runtime: twin, dtype: int8}": "runtime twin computes in fp32, got dtype int8",
        "latency.runtime=broken": "runtime broken cannot be loaded from package broken-runtime 0.3",
        "latency.runtime=twim": "did you mean twin?",
    }
    done = with_packages(packages, "-c", code, *wrong)
    assert done.returncode == 0, done.stderr
    for line, words in zip(done.stdout.splitlines(), wrong.values(), strict=True):
        assert words in line


def test_naming_a_runtime_in_a_recipe_loads_none_of_their_libraries() -> None:
    code = """
import sys
from hat_ray.recipe import load_recipe
recipe = load_recipe("toy", ["latency.devices=[{name: a, runtime: onnx}, {name: b, runtime: ctranslate2}]",
                             "space.runtime=ctranslate2"])
assert recipe.space.build().size() > 1
print(*{"torch", "onnx", "onnxruntime", "ctranslate2"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.strip() == ""
