"""What the command line does: many files, one separator, one report."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dsp import audio
from inference import files, levels, naming, pitch_stems, planning, repository, restored_stems
from inference.files import SeparationReport
from runtime import console
from runtime.errors import UserError
from runtime.files import require_writable, write_json

if TYPE_CHECKING:
    from inference.pitch import PitchTracker
    from inference.separator import Separator

_OUTPUT = Path("separated")  # where stems go without --output, in a folder for each network


@dataclass(frozen=True)
class _Crew:
    """The networks at work; the last two where they were asked for."""

    separator: Separator
    restorer: Separator | None
    tracker: PitchTracker | None


def separate_all(options: Namespace) -> int:
    """Separate everything that the command line of ``separator.py`` names; returns the exit status.

    A file that cannot be done is reported, the others are done, and the status is 1.
    """
    if options.list_models:
        console.log(repository.listing(options.repo))
        return 0
    if not options.inputs:
        taken = f", before --restore, which took {options.restore} for a stem" if options.restore else ""
        raise UserError(f"the following arguments are required: FILE|FOLDER{taken} (see --help)", status=2)
    started = time.perf_counter()
    problems: list[UserError] = []
    options.format, options.bitrate = file_format(options)
    inputs = audio.audio_files(options.inputs, problems, leave_out=options.output or _OUTPUT)
    if not inputs:
        for problem in problems[:-1]:
            console.complain(str(problem), 1)
        raise problems[-1]
    plan = _plan(options)
    output = Path(options.output) if options.output else _OUTPUT / plan.label
    selection, pitch, jobs = _jobs(inputs, plan, output, options)
    done = {path: options.skip_existing and all(map(Path.is_file, made.values())) for path, made in jobs.items()}
    crew = None if all(done.values()) else _crew(plan, selection, pitch, options)
    console.log(f"input: {_count(len(inputs), 'file')}" + (f", {inputs[0]}" if len(inputs) == 1 else ""))

    reports = [SeparationReport("", error=str(problem)) for problem in problems]
    for problem in problems:
        console.complain(str(problem), 1)
    for number, path in enumerate(inputs, 1):
        if done[path]:
            made = {name: str(file) for name, file in jobs[path].items()}
            report = SeparationReport(str(path), outputs=made, skipped=True)
        else:
            report = _one(crew, path, output, selection, options, pitch)
        console.log(f"[{number}/{len(inputs)}] {_sentence(report)}")
        reports.append(report)
    elapsed = time.perf_counter() - started
    if options.json:
        running = {} if crew is None else _facts(crew, selection, pitch)
        write_json(options.json, {**running, "elapsed": elapsed, "files": [asdict(report) for report in reports]})
    _conclude(reports, output, elapsed)
    return 1 if any(report.error for report in reports) else 0


def _jobs(
    inputs: Sequence[Path], plan: planning.Plan, output: Path, options: Namespace
) -> tuple[naming.Selection, pitch_stems.Wish | None, dict[Path, dict[str, Path]]]:
    """What is to be written, and the files of every input; all that can be wrong with the wishes shows here."""
    stems = None if options.stems is None else [name.strip() for name in options.stems.split(",")]
    sources = plan.description.sources
    selection = naming.select(sources, stems, options.two_stems, options.residual, options.other_method)
    selection = restored_stems.wish(options, selection)
    levels.check_clip_mode(options.clip_mode, selection)
    extension = audio.suffix(options.format)[1:]
    jobs = {path: naming.targets(path, output, selection.names, extension, options.filename) for path in inputs}
    pitch = pitch_stems.wish(options, selection, sources)
    for path, made in jobs.items() if pitch else ():
        made |= pitch_stems.named(pitch.job(path, output, options.filename))
    naming.refuse_collisions(jobs)
    if options.bitrate is not None:
        audio.parse_bitrate(options.bitrate)
    files.check_excerpt(options.offset, options.duration)
    require_writable(output)
    if options.json:
        _require_place(Path(options.json), jobs)
    return selection, pitch, jobs


def _require_place(report: Path, jobs: Mapping[Path, Mapping[str, Path]]) -> None:
    """UserError unless the report can be written where nothing of value is."""
    place = report.resolve()
    taken = [*jobs, *(target for targets in jobs.values() for target in targets.values())]
    if place in (path.resolve() for path in taken):
        raise UserError(f"--json {report} would overwrite a song or a stem: choose another name")
    if place.is_dir():
        raise UserError(f"--json {report} is a folder: name the file to write, such as {report / 'report.json'}")
    require_writable(place.parent)


def _crew(
    plan: planning.Plan, selection: naming.Selection, pitch: pitch_stems.Wish | None, options: Namespace
) -> _Crew:
    restoration = restored_stems.plan(options.restore_model) if selection.restored else None
    separator = _separator(plan, options)
    restorer = restored_stems.restorer(restoration, selection.restored, separator) if restoration else None
    return _Crew(separator, restorer, _tracker(separator, pitch) if pitch else None)


def _separator(plan: planning.Plan, options: Namespace) -> Separator:
    from inference.separator import Separator

    separator = Separator(
        plan,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        segment=options.segment,
        overlap=options.overlap,
        shifts=options.shifts,
        seed=options.seed,
        mwf=options.mwf,
        mask_extension=options.mask_extension,
        split=options.split,
        batch=options.batch,
        jobs=max(1, options.jobs),
        window=options.window,
    )
    console.log(f"weights: {separator.name}, {separator.weights_path} ({separator.weights_hash})")
    console.log(f"engine: {separator.engine}")
    for key, value in asdict(separator.options).items():
        console.detail(f"  {key}: {value}")
    return separator


def _tracker(separator: Separator, pitch: pitch_stems.Wish) -> PitchTracker:
    from inference.pitch import PitchTracker
    from inference.pitch_songs import announce

    tracker = PitchTracker(pitch.model, separator.device, offline=pitch.offline)
    announce(tracker, pitch.stem)
    return tracker


def _plan(options: Namespace) -> planning.Plan:
    """The network that was asked for; without a wish the run trained last, else the published two stems."""
    name = options.name
    if isinstance(name, planning.Plan):
        return name
    if name is None and options.weights is None and options.repo is None:
        name = planning.newest_run() or planning.DEFAULT_NAME
        why = "trained last" if isinstance(name, Path) else "published; nothing was trained below model/"
        console.log(f"network: {name} ({why})")
    return planning.separating(name, options.weights, options.offline, options.repo)


def file_format(options: Namespace) -> tuple[str, str | None]:
    """Format and bit rate, out of our own flags and those of Demucs. UserError for what contradicts itself."""
    deep = options.int24 or options.float32
    if options.format is not None and deep:
        raise UserError("--format says it all: leave --int24 and --float32 out", status=2)
    if (options.mp3 and deep) or (options.flac and options.float32):
        raise UserError("--int24 is for wav and flac, --float32 for wav: leave it out, or --mp3 and --flac", status=2)
    if options.mp3:
        return "mp3", options.bitrate or f"{options.mp3_bitrate}k"
    wave = "float32" if options.float32 else "wav24" if options.int24 else "wav16"
    flac = "flac24" if options.int24 else "flac"
    return options.format or (flac if options.flac else wave), options.bitrate


def _one(
    crew: _Crew,
    path: Path,
    output: Path,
    selection: naming.Selection,
    options: Namespace,
    pitch: pitch_stems.Wish | None,
) -> SeparationReport:
    """Separate one file; what is wrong with it goes into the report."""
    try:
        followed = None
        if pitch:
            job = pitch.job(path, output, options.filename)
            followed = pitch_stems.Followed(crew.tracker, job, audio.probe(path).sample_rate)
        with console.progress(100, path.name, "%") as bar:
            report = files.separate_file(
                crew.separator,
                path,
                output,
                options.format,
                options.bitrate,
                options.filename,
                selection,
                options.offset,
                options.duration,
                progress=lambda share: bar.update(int(share * 100) - bar.n),
                clip_mode=options.clip_mode,
                restore=dict.fromkeys(selection.restored, crew.restorer),
                listen={pitch.stem: followed.listen} if followed else None,
            )
        if followed:
            report.outputs |= followed.write()
        return report
    except UserError as error:
        console.complain(str(error) if str(path) in str(error) else f"{path}: {error}", 1)
        return SeparationReport(str(path), error=str(error))


def _sentence(report: SeparationReport) -> str:
    if report.error:
        return f"{report.input or 'input'}: failed"
    if report.skipped:
        return f"{report.input}: skipped, its stems are there"
    text = f"{report.input}: {report.duration:.1f} s in {report.elapsed:.1f} s"
    if report.gain_db:
        text += f"; all stems {report.gain_db:.2f} dB so that none clips"
    if quieter := [f"{name} {gain:.2f} dB" for name, gain in report.gains_db.items() if gain]:
        text += f"; rescaled so that they do not clip: {', '.join(quieter)}"
    if any(report.clipped.values()):
        text += f"; {sum(report.clipped.values())} samples limited"
    written = [Path(name) for name in report.outputs.values()]
    if len({path.parent for path in written}) == 1:
        return f"{text} -> {written[0].parent}/ ({', '.join(path.name for path in written)})"
    return f"{text} -> {', '.join(map(str, written))}"


def _facts(crew: _Crew, selection: naming.Selection, pitch: pitch_stems.Wish | None) -> dict:
    """What is running, for the report."""
    separator, restorer, tracker = crew.separator, crew.restorer, crew.tracker
    facts = {**_identity(separator.name, separator), "engine": separator.engine, "options": asdict(separator.options)}
    if restorer:
        facts["restoration"] = {"stems": selection.restored, **_identity(restorer.name, restorer)}
    if tracker:
        facts["pitch"] = {"stem": pitch.stem, **_identity(tracker.plan.network, tracker)}
    return facts


def _identity(name: str, running: Separator | PitchTracker) -> dict:
    return {
        "network": name,
        "weights": running.weights_path,
        "weights_hash": running.weights_hash,
        "device": running.device,
    }


def _conclude(reports: Sequence[SeparationReport], output: Path, elapsed: float) -> None:
    done = [report for report in reports if not report.error and not report.skipped]
    failed = [report for report in reports if report.error]
    music = sum(report.duration for report in done)
    text = f"wrote {_count(sum(len(report.outputs) for report in done), 'file')} to {output}"
    if len(done) + len(failed) < len(reports):
        text += f", skipped {_count(len(reports) - len(done) - len(failed), 'song')}"
    if failed:
        text += f", {_count(len(failed), 'song')} failed"
    console.log(f"{text}; {music:.1f} s of music in {elapsed:.1f} s")
    if music:
        spent = sum(report.elapsed for report in done)
        console.log(f"real-time factor {spent / music:.3f} (time per length of music, without loading the network)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
