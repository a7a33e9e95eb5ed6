"""The models of stage `retrain`: the search's winners and their rivals, those scaled by hand matched by timing.

`rivals.json` in the stage's folder holds the choice, so that a resumed stage trains what it began with. The timings
behind it are rows of the latency table: what was timed before a kill is not timed again.
"""

from collections.abc import Mapping
from dataclasses import replace

from hat_ray.core.codec import read, write
from hat_ray.pipeline.context import timing_job
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.stages.latency import attached_of
from hat_ray.pipeline.stages.search import SEARCH, measure_on_devices, predictions_of
from hat_ray.search.limits import Limit
from hat_ray.search.rivals.families import hand_scaled
from hat_ray.search.rivals.matching import bisection, match_all, rival_of
from hat_ray.search.selection import HAND_SCALED, SSRU_STUDENT, MissingRival, SelectedModel, Selection, select
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.config import SCRATCH

RIVALS = "rivals.json"


def select_models(context: Context, folder: Folder) -> Selection:
    """Return the winners and the baselines that the recipe asks for; `folder` is the stage's."""
    if not folder.exists(RIVALS):
        write(folder, RIVALS, _selected(context))
    return read(folder, RIVALS, Selection)


def _selected(context: Context) -> Selection:
    recipe = context.recipe
    winners = {winner.limit: winner.architecture for winner in context.require(SEARCH).winners}
    by_hand = _scaled_by_hand(context, winners)
    rivals = {limit: [one for one in found if isinstance(one, SelectedModel)] for limit, found in by_hand.items()}
    selected = select(
        recipe.space.build(),
        winners,
        predictions_of(context),
        largest="largest" in recipe.retrain.baselines,
        randoms=recipe.retrain.random_rivals if "random" in recipe.retrain.baselines else 0,
        seed=recipe.seed,
        by_hand=rivals,
    )
    missing = [one for found in by_hand.values() for one in found if isinstance(one, MissingRival)]
    return Selection(tuple(selected), tuple(missing))


def _scaled_by_hand(
    context: Context, winners: Mapping[Limit, Architecture]
) -> dict[Limit, list[SelectedModel | MissingRival]]:
    """Return by limit the rivals that an engineer would draw, matched to it by their latency on its device."""
    space = context.recipe.space.build()
    kinds = [kind for kind in HAND_SCALED if kind in context.recipe.retrain.baselines]
    kinds = [kind for kind in kinds if kind != SSRU_STUDENT or hand_scaled(space, kind)]
    if not kinds or not winners:
        return {}
    predictions, attached = predictions_of(context), attached_of(context)
    inside = context.recipe.retrain.starts[0] != SCRATCH  # a rival that cannot inherit would lose by that alone
    searches = [
        bisection(
            kind,
            limit,
            hand_scaled(space, kind, keep_qkv=limit.device not in attached, inside=inside),
            predictions,
            limit.device in attached,
        )
        for limit in winners
        for kind in kinds
    ]
    job = replace(timing_job(context, context.folder("latency")), beyond_space=True)
    match_all(searches, lambda some: measure_on_devices(context, job, some, "models scaled by hand"))
    found: dict[Limit, list[SelectedModel | MissingRival]] = {limit: [] for limit in winners}
    for one in searches:
        found[one.limit].append(rival_of(one, space.why_outside))
    return found
