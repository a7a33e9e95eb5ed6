"""`hat-ray latency show|compact|import|export|validate|kit`: the latency table, and the kit that fills it elsewhere."""

import shlex
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from hat_ray.cli.app import latency_app
from hat_ray.cli.folders import require_folder
from hat_ray.cli.options import JsonOpt, RecipeArg, RunOpt, SetOpt
from hat_ray.cli.output import print_json, resolve
from hat_ray.core import console
from hat_ray.errors import LatencyError, RunError
from hat_ray.storage.places import is_uri

TableArg = Annotated[
    str, typer.Argument(metavar="TABLE", help="Root of a latency table: a path or URI.", show_default=False)
]
SpaceOpt = Annotated[
    str | None, typer.Option("--space", metavar="SPACE", help="Only this space: its id, as `show` lists it.")
]
DeviceOpt = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="Only this device: its slug, as `show` lists it.")
]


@latency_app.command("show", epilog="Example:  hat-ray latency show runs/toy/latency/table")
def latency_show(table: TableArg, space: SpaceOpt = None, device: DeviceOpt = None, as_json: JsonOpt = False) -> None:
    """List the content of a latency table.

    Devices and spaces with their rows, milliseconds, error and drift.
    """
    from hat_ray.latency.table.summary import describe_table

    groups = describe_table(table, space, device)
    if as_json:
        print_json({"table": table, "groups": [asdict(group) for group in groups]})
        return
    if not groups:
        raise LatencyError(f"{table} holds no latency rows: time some with `hat-ray latency measure`")
    for group in groups:
        error = "" if group.median_relative_error is None else f", error {100 * group.median_relative_error:.2f} %"
        drift = "" if group.worst_drift is None else f", drift up to {100 * group.worst_drift:.1f} %"
        again = f", {group.measurements} measurements" if group.measurements > group.rows else ""
        span = f"{group.fastest_ms:.4g}-{group.slowest_ms:.4g} ms"
        typer.echo(f"space {group.space_id}  {group.rows:6d} rows{again}  {span}{error}{drift}  {group.device}")


@latency_app.command(
    "compact",
    epilog="""Examples:

hat-ray latency compact runs/toy/latency/table

hat-ray latency compact s3://team/latency --device rig-intel-xeon-e5-2640-v4-avx2-1t-eager-fp32

Readers get the same rows as before. It may be killed, and others may write, read and compact meanwhile.""",
)
def latency_compact(
    table: TableArg,
    space: SpaceOpt = None,
    device: DeviceOpt = None,
    leftover_hours: Annotated[
        float,
        typer.Option("--leftover-hours", min=0, help="Delete temporary files of interrupted writers older than this."),
    ] = 24.0,
    as_json: JsonOpt = False,
) -> None:
    """Merge small files into a few large ones that read faster."""
    from hat_ray.latency.table.compact import compact

    with console.progress_bar("compacting") as progress:
        done = compact(table, space, device, leftover_age=timedelta(hours=leftover_hours), progress=progress)
    if as_json:
        print_json({"table": table, **asdict(done)})
        return
    alone = f"; {done.left_alone} left alone: see `hat-ray latency validate`" if done.left_alone else ""
    left = f", {done.leftovers} leftovers deleted" if done.leftovers else ""
    console.say(
        f"{table}: {done.files_before} files are now {done.files_after}, {done.rows_moved} rows moved{left}{alone}"
    )


@latency_app.command(
    "import",
    epilog="""Examples:

hat-ray latency import table ~/hat/latency_dataset/*.csv

hat-ray latency import table mine.csv --name rack-7 --model "Intel Xeon E5-2640 v4" --threads 4 --length 30

hat-ray latency import s3://team/latency pi/runs/toy/latency/table

hat-ray latency import table part-pi-raspberry-pi-4-neon-1t-onnx-fp32.jsonl

Importing twice adds nothing. HAT's own eight files need no options: what they timed is known.""",
)
def latency_import(
    table: TableArg,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="HAT's CSV files, roots of other latency tables (paths or URIs), or parts of a timing kit.",
        ),
    ],
    space: Annotated[
        str,
        typer.Option(
            "--space", metavar="SPACE", help="Space of a CSV file: a preset's name. Of a table: only this space's id."
        ),
    ] = "",
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Of a table: only this device, by its slug.")
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Of a CSV file: what you call the device it was timed on.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="Of a CSV file: the CPU's or board's model.")
    ] = "",
    accelerator: Annotated[
        str, typer.Option("--accelerator", metavar="MODEL", help="Of a CSV file: the GPU's model.")
    ] = "",
    machine: Annotated[
        str, typer.Option("--machine", metavar="MACHINE", help="Of a CSV file: x86_64, aarch64, ...")
    ] = "x86_64",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of a CSV file: torch threads.")] = 1,
    length: Annotated[int, typer.Option("--length", min=1, help="Of a CSV file: source and target tokens.")] = 30,
    beam: Annotated[int, typer.Option("--beam", min=1, help="Of a CSV file: hypotheses a sentence.")] = 5,
    vocab_size: Annotated[int, typer.Option("--vocab-size", min=1, help="Of a CSV file: words.")] = 32768,
    as_json: JsonOpt = False,
) -> None:
    """Bring in HAT's CSV files, other latency tables, or timed kits."""
    from hat_ray.latency.device import DeviceInfo
    from hat_ray.latency.kit.bring import Brought, import_part, is_part, parts_in
    from hat_ray.latency.table.exchange import Imported, import_csv, import_table
    from hat_ray.latency.table.hat_csv import name_of, published, read_hat_csv
    from hat_ray.latency.timing.workload import Workload
    from hat_ray.space.presets import preset

    require_folder("latency table", table, there=False)
    done: dict[str, Imported] = {}
    of_kits: dict[str, Brought] = {}
    for source in sources:
        if name_of(source).lower().endswith(".csv"):
            known = published(source) if not (name or model or accelerator) else None
            if known is None and not (name or model):
                read_hat_csv(source)  # a fault of the file itself is named first
                raise LatencyError(f"{source} does not name its device: pass --name and --model")
            info = DeviceInfo(
                *(name, model, machine, 0, threads, None, None, (), accelerator, None, ""),
                *("eager", "fp32", "none", ""),
            )
            info, workload = known or (info, Workload(1, beam, length, length, vocab_size))
            space_id = preset(space or "hat-latency").id
            done[source] = import_csv(table, source, space_id=space_id, device=info, workload=workload)
        elif is_part(source):
            for part in parts_in(source):
                brought = import_part(table, part, space, device)
                done[str(part)], of_kits[brought.device] = brought.imported, brought
        else:
            with console.progress_bar("importing") as progress:
                done[source] = import_table(table, source, space or None, device, progress)
    if as_json:
        print_json({"table": table, "sources": {source: asdict(each) for source, each in done.items()}})
        return
    for source, each in done.items():
        skipped = f", {len(each.skipped)} skipped" if each.skipped else ""
        console.say(f"{source}: {each.rows} rows in {each.files} files, {each.known} files were there{skipped}")
    for slug, brought in of_kits.items():
        if brought.rows < brought.planned:
            console.say(f"{slug}: {brought.rows} of {brought.planned} architectures: measure.py resumes for the rest")
        entry = shlex.quote(f"latency.devices=[{{table: {slug}}}]")
        console.say(f"search for it: hat-ray run RECIPE --set latency.table={shlex.quote(table)} --set {entry}")


@latency_app.command("export", epilog="Example:  hat-ray latency export table csv --device hat-intel-xeon-e5-2640-...")
def latency_export(
    table: TableArg,
    out: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder for the CSV files.", show_default=False)],
    space: SpaceOpt = None,
    device: DeviceOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write HAT's CSV files.

    The imported ones unchanged, and one for each device and workload that was measured.
    """
    from hat_ray.latency.table.exchange import export_csvs

    require_folder("folder", out, there=False)
    written = export_csvs(table, out, space, device)
    if as_json:
        print_json({"out": out, "files": written})
        return
    for name, rows in written.items():
        console.say(f"{out}/{name}: {rows} rows")


@latency_app.command(
    "validate",
    epilog="""Example:  hat-ray latency validate runs/toy/latency/table

Exit code 2 when something is wrong. Readers pass over files that cannot be read and rows that are no measurements; rows
that break another rule are read.""",
)
def latency_validate(table: TableArg, as_json: JsonOpt = False) -> None:
    """Check every file and every row.

    Each bad file is named with what is wrong, and so are rows that break a rule.
    """
    from hat_ray.latency.table.validate import validate

    with console.progress_bar("validating") as progress:
        found = validate(table, progress)
    if not found.files and not found.problems and not as_json:
        raise LatencyError(f"{table} holds no latency files to check")
    if as_json:
        print_json({"table": table, **asdict(found)})
    else:
        for problem in found.problems:
            rows = ", ".join(map(str, problem.rows[:5])) + (", ..." if len(problem.rows) > 5 else "")
            where = f" rows {rows} ({len(problem.rows)} in all)" if problem.rows else ""
            typer.echo(f"{problem.file}{where}: {problem.rule}")
        console.say(f"{table}: {found.files} files, {found.rows} rows, {len(found.problems)} problems")
    if found.problems:
        raise typer.Exit(2)


@latency_app.command(
    "kit",
    epilog="""Examples:

hat-ray latency kit toy --out kit --name pi

scp -r kit board:

python3 -m venv .venv && .venv/bin/pip install numpy onnxruntime   (on the board)

.venv/bin/python kit/measure.py   (on the board)

hat-ray latency import table part-pi-raspberry-pi-4-...jsonl

Then `--set latency.table=table --set 'latency.devices=[{table: DEVICE}]'` searches for it: import prints the line.

The board needs Python 3.11, numpy and ONNX Runtime: no hat-ray, PyTorch or Ray. It times the architectures that
`hat-ray latency measure` would, by the same protocol, on ONNX Runtime; an interrupted measure.py resumes.""",
)
def latency_kit(
    recipe: RecipeArg,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="New folder for the kit.")],
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What you call the board: the first part of its device's id. The recipe's device of this name "
            "gives dtype and threads.",
        ),
    ] = "",
    run: RunOpt = None,
    set_: SetOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a folder that times on a board without hat-ray.

    It times the architectures of a recipe, and needs numpy and ONNX Runtime there.
    """
    from hat_ray.pipeline.timing import write_kit_of

    require_folder("--out", out, there=False)
    if is_uri(out):
        raise RunError(f"--out must name a folder of this machine, {out} is a URI: name another")
    loaded, place = resolve(recipe, run, set_)
    with console.progress_bar("writing the kit") as progress:
        kit = write_kit_of(loaded, place, Path(out), name, progress)
    if as_json:
        print_json({"out": out, **asdict(kit)})
        return
    for quantity in kit.unmeasured:
        console.say(f"{quantity} is not measured by a kit: a search on its device cannot bound it")
    console.say(f"{out}: {kit.architectures} architectures, {kit.files} files, {kit.bytes / 1e6:.1f} MB")
    console.say(f"next: copy it to the board, and do there what {shlex.quote(f'{out}/README.md')} says")
