"""Libraries and programs that a recipe asks for and an installation may lack."""

import importlib.util
import shutil
import socket
from collections.abc import Iterator
from http.client import HTTPException

from portalocker.exceptions import LockException
from sacrebleu.utils import download_file

from hat_ray.errors import CorpusError
from hat_ray.evaluate.comet.model import CometModel
from hat_ray.evaluate.tokenizer_files import flores_file, has_flores_file
from hat_ray.evaluate.tokenizers import NEEDS, USUAL, lacks_spaces, tokenizer_of
from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.recipe import Recipe
from hat_ray.runtime.choice import AUTO
from hat_ray.runtime.protocol import RUNTIMES, why_not_installed
from hat_ray.runtime.space import restrictions
from hat_ray.storage.plain_file import printable

_COMPILERS = ("c++", "g++", "clang++")

WANTED = tuple(
    dict.fromkeys(
        [
            *("mlflow", "torch", "xgboost", "sacremoses", "pymarian"),
            *(package for name in RUNTIMES.own_names for package in RUNTIMES.facts(name).packages),
            *(name for names, _ in NEEDS.values() for name in names),
        ]
    )
)
"""Packages that are asked for by name."""

_FETCH_TIMEOUT_S = 20.0


def installed() -> frozenset[str]:
    """Return the wanted packages that this Python has."""
    return frozenset(name for name in WANTED if importlib.util.find_spec(name) is not None)


def check_tokenizer(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The tokenizer of BLEU is installed before anything is trained."""
    tokenizer = recipe.evaluate.tokenizer
    names, how = NEEDS.get(tokenizer, ((), ""))
    for host, lacking in _lacking(situation, names):
        yield (
            situation.of_machine,
            f"evaluate.tokenizer {tokenizer} needs {' and '.join(lacking)}, {host} has not: pip install '{how}', or "
            "take another tokenizer",
        )
    moses = ("sacremoses",) if recipe.evaluate.metric == "multi-bleu" else ()
    for host, lacking in _lacking(situation, moses):
        yield (
            situation.of_machine,
            f"evaluate.metric multi-bleu needs {lacking[0]}, {host} has not: pip install 'hat-ray[vocabularies]', or "
            "set evaluate.metric to sacrebleu",
        )
    language = recipe.corpus.target_language
    if tokenizer == USUAL and lacks_spaces(language):
        better = tokenizer_of("auto", language)
        yield (
            "warning",
            f"evaluate.tokenizer {tokenizer} finds words by spaces, which {printable(language)} lacks: set it to "
            f"{'auto' if better != USUAL else 'flores200 or char'}",
        )
    if tokenizer == "flores200" and not situation.cluster:
        yield from _check_flores(fetch=situation.committed)


def check_comet(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The library and the model of COMET are here before anything is trained."""
    folder = recipe.evaluate.comet_model
    if folder is None:
        return
    for host, lacking in _lacking(situation, ("pymarian",)):
        yield (
            situation.of_machine,
            f"evaluate.more_metrics comet needs the library {lacking[0]}, {host} has not: pip install "
            "'hat-ray[comet]', or leave comet out",
        )
        return
    if not situation.cluster:
        try:
            CometModel.open(folder)
        except CorpusError as error:
            yield "failure", f"evaluate.comet_model: {error}"


def check_tracking(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """MLflow is installed where figures are to go to it."""
    sections = [name for name in ("supernet", "retrain") if name in situation.stages and getattr(recipe, name).mlflow]
    for host, lacking in _lacking(situation, ("mlflow",) if sections else ()):
        yield (
            situation.of_machine,
            f"{sections[0]}.mlflow needs the package {lacking[0]}, {host} has not: pip install mlflow, or unset it",
        )


def check_runtime_packages(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The libraries of every runtime that is timed are installed; those of another package's runtime here only."""
    for runtime in _named_runtimes(recipe):
        if runtime not in RUNTIMES.own_names:
            if not situation.cluster and (reason := why_not_installed(runtime)):
                yield situation.of_machine, reason
            continue
        for host, lacking in _lacking(situation, RUNTIMES.facts(runtime).packages):
            yield (
                situation.of_machine,
                f"runtime {runtime} needs {' and '.join(lacking)}, {host} has not: pip install {' '.join(lacking)}",
            )


def _named_runtimes(recipe: Recipe) -> list[str]:
    """Return the runtimes that settings name, each once; a node that chooses by itself takes one that it has."""
    configs = [recipe.latency.of(device) for device in recipe.latency.timed]
    return [name for name in dict.fromkeys(config.runtime for config in configs) if name != AUTO]


def check_expressible(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every runtime that is timed can express every architecture of the space."""
    choices = recipe.space.build().choices
    for runtime in _named_runtimes(recipe):
        if changes := restrictions(choices, runtime):
            wrong = "; ".join(f"{name} {list(choices[name])}" for name in changes)
            yield (
                "failure",
                f"runtime {runtime} must be able to express every architecture of the space, got {wrong}: set "
                f"space.runtime={runtime}, or take another runtime",
            )


def check_compiler(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """torch.compile makes C++ of a model on a CPU, which something has to compile."""
    if not recipe.retrain.compile or recipe.retrain.use_gpu or situation.cluster:
        return
    if not any(map(shutil.which, _COMPILERS)):
        yield (
            situation.of_machine,
            f"retrain.compile needs a C++ compiler, none of {', '.join(_COMPILERS)} is here: install one, or set "
            "retrain.compile to false",
        )


def _lacking(situation: Situation, names: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield the first machine that lacks some of these packages, and which."""
    for machine in situation.machines:
        lacking = [name for name in names if machine.packages is not None and name not in machine.packages]
        if lacking:
            yield machine.host, lacking
            return


def _check_flores(fetch: bool) -> Iterator[Finding]:
    """See whether sacreBLEU's file for flores200 is here, and let it `fetch` the file where it is not."""
    url, place = flores_file()
    if has_flores_file():
        return
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_FETCH_TIMEOUT_S)
    try:
        if fetch:
            download_file(url, str(place))
            return
        why = "it is not here yet"
    except (OSError, HTTPException, LockException, SystemExit) as error:
        why = f"it cannot be fetched ({' '.join(str(error).split())})"
    finally:
        socket.setdefaulttimeout(before)
    yield (
        "failure" if fetch else "warning",
        f"evaluate.tokenizer flores200 needs a file of sacreBLEU's, {why}: put {url} as {place}, or take another one",
    )
