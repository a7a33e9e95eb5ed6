"""The recipe: one YAML file that describes a whole experiment.

It composes the settings that stand beside each stage. A mistake in it is reported with file, line, key and remedy.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self, cast

import pyarrow.fs as pafs
import yaml
from pydantic import Field, PrivateAttr, ValidationError, model_validator

from hat_ray.core.config import StageConfig, nearest_name, similar_names
from hat_ray.core.placement import ClusterConfig
from hat_ray.core.yaml_text import MOST_DEPTH, read_mapping, read_yaml
from hat_ray.corpus.config import CorpusConfig
from hat_ray.errors import RecipeError, RunError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.tokenizers import AUTO
from hat_ray.latency.config import LatencyConfig
from hat_ray.latency.sweep import SweepConfig
from hat_ray.model.config import ModelConfig
from hat_ray.predictor.config import PredictorConfig
from hat_ray.report.config import ReportConfig
from hat_ray.runtime.space import RuntimeSpaceConfig
from hat_ray.search.algorithms.registry import ALGORITHMS
from hat_ray.search.config import SearchConfig
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import CREDENTIALS_REMEDY, NO_SECRETS, redacted
from hat_ray.storage.plain_file import TEXT_BYTES, decode_text, printable, read_text
from hat_ray.studies.config import PoliciesConfig, RankingConfig
from hat_ray.train.config import RetrainConfig, SupernetConfig

_BASES_OF_SPACES = ("space.preset", "space.file")
RUN_RECIPE = "recipe.yaml"
"""The file of a run folder that keeps its recipe."""


class Recipe(StageConfig):
    """A whole experiment: languages, architectures, devices and limits."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the experiment and, by default, of its run folder: letters, digits, dots, dashes, underscores."""
    description: str = ""
    """One line for people."""
    seed: int = Field(default=1, ge=0)
    """Every random stream of the run derives from it."""
    corpus: CorpusConfig = CorpusConfig()
    """The parallel text and its sub-words."""
    space: RuntimeSpaceConfig = RuntimeSpaceConfig()
    """The architectures to choose from."""
    model: ModelConfig = ModelConfig()
    """What all architectures share."""
    supernet: SupernetConfig = SupernetConfig()
    """Training of the SuperTransformer."""
    latency: LatencyConfig = LatencyConfig()
    """Timing of architectures on each device."""
    sweep: SweepConfig = SweepConfig()
    """Latency against each single dimension; done by its own command only."""
    predictor: PredictorConfig = PredictorConfig()
    """The latency predictor of each device."""
    search: SearchConfig = SearchConfig()
    """Evolution under latency limits."""
    retrain: RetrainConfig = RetrainConfig()
    """Training of the chosen architectures and of what they are compared with."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Translation and scoring of the test set."""
    ranking: RankingConfig = RankingConfig()
    """How well inherited weights rank architectures; done by its own command only."""
    policies: PoliciesConfig = PoliciesConfig()
    """Comparison of training policies; done by its own command only."""
    report: ReportConfig = ReportConfig()
    """The page."""
    cluster: ClusterConfig = ClusterConfig()
    """The nodes of a Ray cluster that train, search and score. It changes no result."""

    _auto_tokenizer: bool = PrivateAttr(default=False)
    """Whether `evaluate.tokenizer` follows from the target language: it does so again where that is changed."""

    @model_validator(mode="after")
    def _with_tokenizer(self) -> Self:
        """Put the tokenizer of the target language in the place of `auto`, which the recipe's YAML keeps."""
        if self.evaluate.tokenizer == AUTO:
            self._auto_tokenizer = True
            self.__dict__["evaluate"] = self.evaluate.for_language(self.corpus.target_language)
        return self


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    files = resources.files("hat_ray") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in files.iterdir() if file.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path, and apply `key.path=value` overrides."""
    text, source = _recipe_text(name_or_path)
    return parse_recipe(text, source, overrides or [])


def parse_recipe(text: str, source: str, overrides: list[str] | None = None, *, of_run: bool = False) -> Recipe:
    """Read a recipe from YAML; raises RecipeError with file, line and key.

    A run's recipe names every setting: where that of text files lacks `corpus.protect`, the run is from before it.
    """
    document = read_mapping(text, source, RecipeError)
    values, lines = document.values, document.lines
    if of_run and isinstance(corpus := values.get("corpus"), dict) and corpus.get("source") == "files":
        corpus.setdefault("protect", 0)
    if any(override.partition("=")[0].strip() in _BASES_OF_SPACES for override in overrides or []):
        _forget_space(values)
    for override in overrides or []:
        _apply(values, lines, override)
    _refuse_secrets(values, (), source, lines)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, source, lines, values)) from error


def load_run_recipe(folder: Folder, overrides: list[str] | None = None) -> Recipe:
    """Read the recipe that a run folder keeps, and apply overrides."""
    source = f"{folder}/{RUN_RECIPE}"
    found = folder.info(RUN_RECIPE)
    if found.type == pafs.FileType.NotFound:
        raise RunError(f"run folder {folder} lacks its {RUN_RECIPE}: name the recipe, and the folder with --run")
    if found.type != pafs.FileType.File:
        raise RecipeError(f"{source} is no plain file: name the recipe, and the folder with --run")
    with folder.reading(RUN_RECIPE) as stream:
        content = bytes(stream.read(TEXT_BYTES + 1))
    return parse_recipe(decode_text(content, source, RecipeError), source, overrides, of_run=True)


def find_recipe(
    recipe: "str | Path | Recipe", run: str | None = None, overrides: list[str] | None = None
) -> tuple[Recipe, str]:
    """Return a recipe with overrides applied, and the place of its run folder (default: `runs/` and its name).

    `recipe` is a shipped recipe's name, a YAML file, or a run folder, which brings its place.
    """
    if isinstance(recipe, Recipe):
        found = parse_recipe(to_yaml(recipe), f"recipe {recipe.name}", overrides) if overrides else recipe
    else:
        named = str(recipe)
        if ("://" in named or os.path.isdir(named)) and (folder := Folder.at(named)).exists("run.json"):
            return load_run_recipe(folder, overrides), named if run is None else run
        found = load_recipe(named, overrides)
    return found, str(Path("runs") / found.name) if run is None else run


def to_yaml(recipe: Recipe) -> str:
    """Write the resolved recipe: every field, in the order of the pipeline."""
    values = recipe.model_dump(mode="json")
    if recipe._auto_tokenizer:
        values["evaluate"]["tokenizer"] = AUTO
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True)


def json_schema() -> str:
    """Return the JSON schema of recipes, for editors that complete and check YAML."""
    return json.dumps(Recipe.model_json_schema(), indent=2)


def _recipe_text(name_or_path: str) -> tuple[str, str]:
    names = shipped_recipes()
    if name_or_path in names:
        file = resources.files("hat_ray") / "recipes" / f"{name_or_path}.yaml"
        return file.read_text(encoding="utf-8"), f"recipe {name_or_path}"
    if os.path.isdir(name_or_path):
        given = printable(name_or_path, 200)
        raise RecipeError(f"{given} is a folder that holds no run: name a recipe, a recipe file or a run folder")
    if not (os.path.lexists(name_or_path) or "/" in name_or_path):
        near = nearest_name(name_or_path, names)
        hint = f"did you mean {near}?" if near else f"shipped recipes are {', '.join(names)}"
        raise RecipeError(f"no recipe is called {printable(name_or_path)!r}, and no file is there; {hint}")
    return read_text(name_or_path, "recipe", RecipeError), str(Path(name_or_path))


Lines = dict[tuple[str, ...], str]


def _apply(values: dict[str, Any], lines: Lines, override: str) -> None:
    """Set one `key.path=value`, the value read as YAML."""
    key, equals, text = override.partition("=")
    parts = tuple(key.strip().split("."))
    shown = printable(redacted(override), 100)
    if not equals or not all(parts):
        raise RecipeError(f"an override must read key.path=value, such as search.evaluations=200, got {shown!r}")
    if len(parts) > MOST_DEPTH:
        raise RecipeError(f"--set {shown}: a key has {MOST_DEPTH} parts at most, got {len(parts)}")
    value = read_yaml(text, f"--set {shown}", RecipeError).values
    target = values
    for part in parts[:-1]:
        inner = target.get(part)
        if not isinstance(inner, dict):
            inner = {}
            target[part] = inner
        target = inner
    target[parts[-1]] = value
    lines[parts] = f"--set {shown}"


def _forget_space(values: dict[str, Any]) -> None:
    """Leave out a recipe's own search space, whose dimensions would replace all those of one that is named instead."""
    if isinstance(space := values.get("space"), dict):
        values["space"] = {key: value for key, value in space.items() if key == "runtime"}


def _refuse_secrets(value: object, path: tuple[str, ...], source: str, lines: Lines) -> None:
    """Raise RecipeError for a URI with a secret anywhere: a run folder keeps its recipe, and reports show it."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            _refuse_secrets(part, (*path, str(key)), source, lines)
    elif isinstance(value, str) and redacted(value) != value:
        known = [path[:length] for length in range(len(path), 0, -1) if path[:length] in lines]
        place = f", {lines[known[0]]}" if known else ""
        raise RecipeError(
            f"{source}{place}: {printable('.'.join(path))}: {NO_SECRETS}, got {printable(redacted(value), 200)}: "
            f"{CREDENTIALS_REMEDY}"
        )


def _explain(error: ValidationError, source: str, lines: Lines, values: Mapping[str, Any]) -> str:
    """Return the first mistake in one line, and the number of others.

    Where a setting takes several forms pydantic names a mistake of each: the form that the value meant is the one whose
    mistake lies deepest in it.
    """
    found = [(_path_of(one["loc"], values, one["type"] == "missing"), one) for one in error.errors()]
    begin = found[0][0]
    of_one = [(path, one) for path, one in found if path[: len(begin)] == begin] if begin else found[:1]
    path, first = max(of_one, key=lambda each: len(each[0]))
    known = [path[:length] for length in range(len(path), 0, -1) if path[:length] in lines]
    place = f", {lines[known[0]]}" if known else ""
    key = printable(".".join(path)) or "the recipe"
    if first["type"] == "extra_forbidden":
        fields = _fields_at(path[:-1])
        near = similar_names(path[-1], fields, cutoff=0.84)[:1] or _keys_named(path[-1])[:3]
        near = near or similar_names(path[-1], fields)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(fields)}"
        message = f"unknown key {key}; {hint}"
    elif first["type"] == "missing":
        message = f"{key} is missing"
    else:
        reason = _reason_of([one["msg"] for where, one in of_one if where == path])
        given = first["input"]
        shown = (
            "" if isinstance(given, dict) or ", got " in reason else f", got {printable(redacted(repr(given)), 200)}"
        )
        message = f"{key}: {reason}{shown}"
    rest = f" (and {len(found) - len(of_one)} more)" if len(found) > len(of_one) else ""
    return f"{source}{place}: {message}{rest}"


def _path_of(names: Sequence[int | str], values: Mapping[str, Any], is_missing: bool) -> tuple[str, ...]:
    """Return the keys to a mistake: pydantic's names without those of the forms that a setting may take."""
    path, place = list[str](), cast("Any", values)
    for number, name in enumerate(names, 1):
        is_entry = isinstance(place, list | tuple) and isinstance(name, int) and name < len(place)
        if is_entry or (isinstance(place, Mapping) and name in place):
            path, place = [*path, str(name)], place[name]
        elif (is_missing and number == len(names)) or (re.fullmatch("[a-z0-9_]+", str(name)) and name not in _SIMPLE):
            path, place = [*path, str(name)], None
    return tuple(path)


_SIMPLE = ("str", "int", "float", "bool", "none")


def _reason_of(messages: Sequence[str]) -> str:
    """Return why a value is refused: one reason, or what it may be instead, form by form."""
    plain = [
        re.sub(r" or instance of \w+", "", message.removeprefix("Value error, "))
        .replace("valid tuple", "list")
        .replace("valid dictionary", "mapping")
        for message in dict.fromkeys(messages)
    ]
    begin = "Input should be "
    if len(plain) > 1 and all(one.startswith(begin) for one in plain):
        forms = dict.fromkeys(one.removeprefix(begin).partition(", unable")[0] for one in plain)
        plain = [begin + " or ".join(forms)]
    return plain[0][:1].lower() + plain[0][1:]


def _keys_named(name: str) -> list[str]:
    """Return the keys of other sections that have a name, an algorithm's options included."""
    sections = {key: field.annotation for key, field in Recipe.model_fields.items()}
    found = [f"{key}.{name}" for key, kind in sections.items() if name in getattr(kind, "model_fields", {})]
    options = [ALGORITHMS.facts(algorithm).model_fields for algorithm in ALGORITHMS.own_names]
    return found + [f"search.algorithm_options.{name}"] * any(name in fields for fields in options)


def _fields_at(path: tuple[str, ...]) -> list[str]:
    """Return the field names of the section at a path."""
    model: Any = Recipe
    for part in path:
        if part.isdigit():  # an entry of a list of sections: the field's own type names their class
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((option for option in options if hasattr(option, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))
