"""HAT's YAML files as one recipe: SuperTransformer, SubTransformer, search, latency data set, latency predictor.

Decisions
- What a file is follows from its keys, never from its name or place.
- Each key is either a setting of the recipe or named with the reason why none takes it: nothing is dropped silently.
- Two files that make a setting different values are refused. Settings of the data set's space are named only: rows
  are timed from the space that is searched.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hat_ray.core.yaml_text import read_mapping
from hat_ray.corpus.fairseq.data_bin import DataBin, language_pair
from hat_ray.errors import RecipeError
from hat_ray.model.checkpoints.fairseq_network import LACKED, network_settings
from hat_ray.pipeline.imports.keys import DATASET, DIRECT, EVOLUTION, PREDICTOR, REASONS, SUPER_SIZES
from hat_ray.pipeline.imports.training import Ledger, fraction, map_training, shown
from hat_ray.recipe import Recipe, parse_recipe
from hat_ray.space.dimensions import DIMENSIONS
from hat_ray.space.hat_yaml import choice_key, read_space
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import expanded, read_text

_OF_TRAINING = ("max-update", "lr-scheduler", "optimizer", "criterion")
_LENGTH_IWSLT, _LENGTH = 23, 30
"""Tokens of the sentence that HAT times, by its task."""
_OF_NETWORK = ("qkv-dim", "max-tokens", "share-all-embeddings", "share-decoder-input-output-embed")
_OF_MODEL = {
    "activation-fn": "activation",
    "encoder-learned-pos": "positions",
    "decoder-learned-pos": "positions",
    "no-token-positional-embeddings": "positions",
    "no-decoder-final-norm": "decoder_final_norm",
    "no-scale-embedding": "scale_embeddings",
}
"""Keys of the network, and the setting of the model that each decides."""
_LONGEST = 1_024
"""Tokens of the longest sentence that fairseq trains on, by its default."""
_LEAST_REPETITIONS = 10
_UNKNOWN = "no setting is known for it: fairseq's or HAT's option is left aside"


@dataclass(frozen=True)
class ImportedRecipe:
    """A recipe made of HAT's files, and what became of each key."""

    recipe: Recipe
    settings: Mapping[str, Any]
    """The recipe's own settings, nested; all others are at their defaults."""
    mapped: Mapping[str, str]
    unmapped: Mapping[str, str]

    def to_yaml(self) -> str:
        """Return the settings as YAML, with the keys that no setting takes as comments behind them."""
        text = yaml.safe_dump(dict(self.settings), sort_keys=False, default_flow_style=None, allow_unicode=True)
        by_reason: dict[str, list[str]] = {}
        for key, reason in self.unmapped.items():
            by_reason.setdefault(reason, []).append(f"#   {key}")
        lines = [line for reason, keys in by_reason.items() for line in (f"# Not taken, {reason}:", *keys)]
        return "\n".join([text, *lines, ""]) if lines else text


def import_recipe(paths: Sequence[str], name: str = "", gpus: int | None = None) -> ImportedRecipe:
    """Read HAT's YAML files; raise RecipeError, in one line, where they make no recipe."""
    files = [(path, _read(path)) for path in paths]
    ledger = Ledger()
    for path, values in files:
        _map_file(values, "/".join(Path(path).parts[-2:]), gpus, ledger)
    if not any(key.startswith("space.") for key in ledger.settings):
        raise RecipeError(
            "HAT's files must hold a search space, as configs/wmt14.en-de/supertransformer/space0.yml does: name it"
        )
    _note_vocabulary(ledger)
    title = name or _title([path for path, _ in files])
    return made_of(ledger, title, f"Imported from HAT: {', '.join(Path(path).name for path, _ in files)}")


def _note_vocabulary(ledger: Ledger) -> None:
    """Set the languages and the size of the vocabulary by the data-bin, where it is here already."""
    folder = ledger.settings.get("corpus.fairseq.folder")
    if folder is None or not expanded(folder).is_dir():
        return
    sides = [ledger.settings.get(f"corpus.{side}_language") for side in ("source", "target")]
    pair = language_pair(folder, "-".join(map(str, sides)) if all(sides) else None)
    ledger.settings |= {"corpus.source_language": pair[0], "corpus.target_language": pair[1]}
    ledger.settings["corpus.vocab_size"] = len(DataBin.open(folder, *pair).target)


def made_of(ledger: Ledger, name: str, description: str, overrides: Sequence[str] = ()) -> ImportedRecipe:
    """Return the recipe of a ledger; raise RecipeError where a value breaks a rule."""
    settings: dict[str, Any] = {"name": name, "description": description}
    for key, value in ledger.settings.items():
        inner = settings
        *sections, last = key.split(".")
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    recipe = parse_recipe(text, description, list(overrides))
    return ImportedRecipe(recipe, settings, ledger.mapped, ledger.unmapped)


def map_model(values: Mapping[str, Any], source: str, ledger: Ledger) -> set[str]:
    """Map the keys that describe the network itself; return those that were seen to."""
    sharing = {"share-all-embeddings": "all", "share-decoder-input-output-embed": "decoder"}
    found = next((key for key in sharing if values.get(key)), None)
    key = found or "share-all-embeddings"
    ledger.put(source, key, values.get(key, False), {"model.share_embeddings": sharing.get(found or "", "none")})
    norms = [bool(values.get(f"{side}-normalize-before")) for side in ("encoder", "decoder")]
    if norms[0] != norms[1]:
        raise RecipeError(f"{source}: both sides must place their norms alike, got pre-norm for one: set both or none")
    ledger.put(source, "encoder-normalize-before", norms[0], {"model.normalize_before": norms[0]})
    settings = network_settings({key.replace("-", "_"): value for key, value in values.items()}, {}, source)
    for key, name in _OF_MODEL.items():
        if key in values:
            ledger.put(source, key, values[key], {f"model.{name}": settings[name]})
    lacked = {key for name in LACKED if (key := name.replace("_", "-")) in values}
    for key in lacked:
        ledger.leave(source, key, values[key], "it changes nothing at this value")
    longest = [values[key] for key in ("max-source-positions", "max-target-positions") if key in values]
    if longest:
        ledger.put(source, "max-source-positions", max(longest), {"model.max_positions": max(longest)})
    return {
        *sharing,
        *_OF_MODEL,
        *lacked,
        "encoder-normalize-before",
        "decoder-normalize-before",
        "max-source-positions",
        "max-target-positions",
    }


def map_space(space: SearchSpace, source: str, ledger: Ledger) -> None:
    """Write every choice of a space into the recipe, so that it needs no other file."""
    for one in space.dimensions:
        ledger.put(source, choice_key(one), list(space[one.name]), {f"space.{one.name}": list(space[one.name])})
    ledger.put(source, "qkv-dim", space.qkv_dim, {"space.qkv_dim": space.qkv_dim})


def _read(path: str) -> dict[str, Any]:
    found = read_mapping(read_text(path, "HAT YAML", RecipeError), path, RecipeError).values
    return {str(key).replace("_", "-"): _value(value) for key, value in found.items()}


def _value(value: Any) -> Any:
    """Return a number that YAML takes for text, such as 1e-7, as the number; all other values as they are."""
    return (
        float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,3}", value) else value
    )


def _title(paths: Sequence[str]) -> str:
    parts = Path(paths[0]).absolute().parts
    task = next((part for part in reversed(parts[:-1]) if re.fullmatch(r"\w+\.[a-z]{2}-[a-z]{2}", part)), None)
    return task or re.sub(r"[^A-Za-z0-9._-]", "-", f"hat-{Path(paths[0]).stem}")[:64]


def _map_file(values: Mapping[str, Any], source: str, gpus: int | None, ledger: Ledger) -> None:
    """Map one file by what it is."""
    if any(key in values for key in EVOLUTION):
        seen = _map_search(values, source, ledger)
    elif any(key in values for key in DATASET):
        seen = _map_data_set(values, source, ledger)
    elif any(key in values for key in PREDICTOR):
        seen = {"lr"} & values.keys()
        for key in seen:
            ledger.leave(source, key, values[key], REASONS["train-steps"])
    else:
        seen = _map_network(values, source, gpus, ledger)
    for key, value in values.items():
        if key not in seen:
            _map_other(key, value, source, ledger)


def _map_other(key: str, value: Any, source: str, ledger: Ledger) -> None:
    """Map a key that means the same in every file, or give the reason why none takes it."""
    if key in DIRECT:
        ledger.put(source, key, value, {DIRECT[key]: value})
    elif key == "data":
        folder = str(value).partition(":")[0]
        settings = {"corpus.source": "fairseq", "corpus.fairseq.folder": folder, "corpus.max_length": _LONGEST}
        ledger.put(source, key, value, settings)
    elif key.endswith("-subtransformer"):
        ledger.leave(source, key, value, "one architecture: `hat-ray train sub RECIPE --architecture FILE` trains it")
    else:
        ledger.leave(source, key, value, REASONS.get(key) or _UNKNOWN)


def _map_network(values: Mapping[str, Any], source: str, gpus: int | None, ledger: Ledger) -> set[str]:
    """Map a file of a SuperTransformer, or of the training of SubTransformers."""
    seen = set[str]()
    keys = {choice_key(one) for one in DIMENSIONS if one.hat_key}
    if keys & values.keys():
        map_space(read_space(yaml.safe_dump(dict(values)), Path(source).stem, source), source, ledger)
        seen |= keys | {"qkv-dim"}
    for key in (*SUPER_SIZES, "qkv-dim"):
        if key in values and key not in seen:
            ledger.mapped[f"{source}: {key} {shown(values[key])}"] = "the largest choice of the space"
            seen.add(key)
    if any(key in values for key in _OF_TRAINING):
        section = "retrain" if values.get("train-subtransformer") else "supernet"
        seen |= map_training(values, section, source, gpus, ledger) | map_model(values, source, ledger)
    return seen | map_arch(values, source, ledger)


def map_arch(values: Mapping[str, Any], source: str, ledger: Ledger) -> set[str]:
    """Map the lengths of the sentence that HAT times, which its code derives from the name of the task."""
    if "arch" not in values:
        return set()
    length = _LENGTH_IWSLT if "iwslt" in str(values["arch"]) else _LENGTH
    ledger.put(source, "arch", values["arch"], {f"latency.{side}_length": length for side in ("source", "target")})
    return {"arch"}


def _map_search(values: Mapping[str, Any], source: str, ledger: Ledger) -> set[str]:
    """Map a file of the evolutionary search: HAT's own algorithm, its sizes and its limit."""
    rounds, population, parents = (
        _whole(values.get(key, default), key, source)
        for key, default in (("evo-iter", 30), ("population-size", 125), ("parent-size", 25))
    )
    options = "search.algorithm_options"
    ledger.put(source, "evo-iter", rounds, {"search.evaluations": rounds * population})
    ledger.put(source, "population-size", population, {"search.algorithm": "hat", f"{options}.population": population})
    ledger.put(source, "parent-size", parents, {f"{options}.parents": parents})
    chance = fraction(values.get("mutation-prob", 0.3), "mutation-prob", source)
    ledger.put(source, "mutation-prob", chance, {f"{options}.mutation_probability": chance})
    limit = fraction(values.get("latency-constraint", -1), "latency-constraint", source)
    if limit > 0:
        before = ledger.settings.pop("search.limits_ms", [])
        ledger.put(source, "latency-constraint", limit, {"search.limits_ms": sorted({*before, limit})})
    children = {"mutation-size": (population - parents) // 2, "crossover-size": -(-(population - parents) // 2)}
    for key, count in children.items():
        if values.get(key, count) == count:
            ledger.mapped[f"{source}: {key} {count}"] = "half of each generation's children, as always in `hat`"
        else:
            ledger.leave(source, key, values[key], f"the algorithm `hat` makes half of the children by each: {count}")
    sizes = {"evo-iter", "population-size", "parent-size", "mutation-prob", "latency-constraint", *children}
    return sizes


def _map_data_set(values: Mapping[str, Any], source: str, ledger: Ledger) -> set[str]:
    """Map a file of a latency data set; its own space is named, as rows are timed from the searched one."""
    seen = {"lat-dataset-size", "latiter", "latgpu", "latcpu"}
    if "lat-dataset-size" in values:
        ledger.put(
            source, "lat-dataset-size", values["lat-dataset-size"], {"latency.samples": values["lat-dataset-size"]}
        )
    if "latiter" in values:
        count = max(_whole(values["latiter"], "latiter", source), _LEAST_REPETITIONS)
        most = max(count, ledger.settings.pop("latency.max_repetitions", 0))  # of several devices
        ledger.put(source, "latiter", values["latiter"], {"latency.max_repetitions": most})
    for key, processor in (("latgpu", "cuda"), ("latcpu", "cpu")):
        if not values.get(key):
            continue
        if ledger.settings.get("latency.accelerator", processor) == processor:
            ledger.put(source, key, True, {"latency.accelerator": processor})
        else:
            ledger.settings["latency.accelerator"] = "auto"
            ledger.leave(source, key, True, "files of CPUs and GPUs together: name each in latency.devices")
    reason = (
        "rows are timed from the space that is searched; tables of a larger one serve it by `latency.rows_of: covering`"
    )
    of_space = {choice_key(one) for one in DIMENSIONS if one.hat_key} | {*SUPER_SIZES, *_OF_NETWORK}
    for key in sorted(of_space & values.keys()):
        ledger.leave(source, key, values[key], reason)
    return seen | of_space


def _whole(value: Any, key: str, source: str) -> int:
    if type(value) is not int or not 1 <= value <= 1_000_000_000:
        raise RecipeError(f"{source}: {key} must be a whole number from 1 on, got {shown(value)}")
    return value
