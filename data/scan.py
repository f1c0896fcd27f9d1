"""From a folder of songs to an index: find, measure what changed, judge, divide into splits, write.

Beside the index lies `index.audit.jsonl` with everything that was measured. It is the readable record of the audit, and
lets the next scan decode only what is new: a file counts as the same while its size and time are, and else by its hash.
"""

import json
from collections import Counter
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data import audit
from data.audit import Finding, SongMeasure
from data.index import Index, Song, file_stat, index_path, write_index
from data.layout import SongFolder, SplitRule, assign_splits, find_songs
from data.workers import open_pool
from runtime import console
from runtime.errors import UserError
from runtime.files import atomic_write, require_writable, sha256

RECORD_FORMAT = "paddlestems-audit"
RECORD_VERSION = 1


@dataclass
class Record:
    """What is remembered of one song folder between scans."""

    sources: dict[str, str]
    stat: dict[str, tuple[int, int]]
    measure: SongMeasure


@dataclass
class Report:
    """Outcome of a scan. `index` is None when errors kept it from being written."""

    dataset: Path
    index: Index | None
    findings: list[Finding]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    decoded: int = 0
    unchanged: int = 0
    removed: int = 0

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "warning"]


def build_index(
    dataset: str | Path,
    path: str | Path | None = None,
    rule: SplitRule | None = None,
    settings: audit.Settings | None = None,
    skip_errors: bool = False,
    jobs: int = 1,
) -> Report:
    """Scan a data set and write its index, unless there are errors and `skip_errors` is false.

    `path` is the index file, by default `<dataset>/index.jsonl`. UserError when there is nothing to index or the place
    cannot be written to; what is wrong with songs is in the report instead.
    """
    dataset, rule, settings = Path(dataset), rule or SplitRule(), settings or audit.Settings()
    folders, findings = find_songs(dataset)
    path = index_path(path or dataset)
    _check_place(path, dataset)
    record_path = path.with_suffix(".audit.jsonl")
    known = _read_records(record_path)
    records, decoded = _measure_all(dataset, folders, known, record_path, jobs)

    for folder in folders:
        findings += audit.judge(folder.folder, records[folder.folder].measure, settings)
    usable = [folder for folder in folders if folder.folder not in _faulty(findings)] if skip_errors else folders
    usable, notes = assign_splits(usable, rule)
    findings += audit.compare(
        (song.folder, song.name, song.split, records[song.folder].measure.content) for song in usable
    )
    findings.sort(key=lambda finding: (finding.severity, finding.song, finding.file, finding.kind))
    _write_records(record_path, records, findings)

    report = Report(dataset, None, findings, notes=notes, decoded=decoded, unchanged=len(folders) - decoded)
    report.removed = len(known.keys() - records.keys())
    bad = _faulty(findings)
    if bad and not skip_errors:
        return report
    report.skipped = sorted(bad)
    songs = [_song(folder, records[folder.folder]) for folder in usable if folder.folder not in bad]
    if not songs:
        raise UserError(f"{dataset}: none of its {len(bad)} songs can be used; {record_path} says why")
    settings_row = {"audit": asdict(settings), "splits": asdict(rule)}
    write_index(path, dataset, songs, settings_row)
    report.index = Index(dataset, tuple(songs), path, settings_row)
    return report


def _faulty(findings: list[Finding]) -> set[str]:
    return {finding.song for finding in findings if finding.severity == "error"}


def _check_place(path: Path, dataset: Path) -> None:
    try:
        require_writable(path.parent)
    except UserError as error:
        hint = "; write the index elsewhere with --index FILE.jsonl" if path.parent == dataset else ""
        raise UserError(f"{error}{hint}") from error


def _song(folder: SongFolder, record: Record) -> Song:
    measure = record.measure
    first = next(iter(measure.files.values()))
    return Song(
        name=folder.name,
        split=folder.split,
        folder=folder.folder,
        sources=folder.sources,
        frames=first.frames,
        sample_rate=first.sample_rate,
        channels=first.channels,
        fingerprint=measure.fingerprint,
        stat=record.stat,
    )


# ------------------------------------------------------------------------------------------------------------ measuring


def _measure_all(
    dataset: Path, folders: list[SongFolder], known: dict[str, Record], record_path: Path, jobs: int
) -> tuple[dict[str, Record], int]:
    """Records of all folders, by folder, and how many songs had to be decoded."""
    records: dict[str, Record] = {}
    tasks = []
    for folder in folders:
        old = known.get(folder.folder)
        stat = {name: file_stat(dataset / name) for name in folder.sources.values()}
        same = old is not None and old.sources == folder.sources and old.stat == stat
        if same and not any(measure.problem for measure in old.measure.files.values()):
            records[folder.folder] = old
        else:
            tasks.append((folder, old))
    decoded = 0
    try:
        with console.progress(len(tasks), "reading songs", "song") as bar:
            for folder, record, fresh in _run(dataset, tasks, jobs):
                records[folder.folder] = record
                decoded += fresh
                bar.update()
    except BaseException:
        _write_records(record_path, {**known, **records}, [])  # what was decoded need not be decoded again
        raise
    return records, decoded


def _run(dataset: Path, tasks: list, jobs: int):
    """Yield (folder, record, decoded?) as the songs are done, from several processes when that is worth it."""
    if jobs <= 1 or len(tasks) <= 1:
        for folder, old in tasks:
            yield folder, *_measure(dataset, folder, old)
        return
    with open_pool(min(jobs, len(tasks))) as pool:
        futures = {pool.submit(_measure, dataset, folder, old): folder for folder, old in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], *future.result()
        except BrokenProcessPool:
            raise UserError("a process that read songs was killed, perhaps for want of memory: use -j 1") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _measure(dataset: Path, folder: SongFolder, old: Record | None) -> tuple[Record, bool]:
    """Measure a song, unless all of its files still have the bytes that were measured before."""
    stat = {name: file_stat(dataset / name) for name in folder.sources.values()}
    if old is not None and old.sources == folder.sources:
        measured = {measure.path: measure for measure in old.measure.files.values()}
        same = all(
            not measured[name].problem
            and stat[name] is not None
            and (old.stat.get(name) == stat[name] or sha256(dataset / name) == measured[name].sha256)
            for name in folder.sources.values()
        )
        if same:
            return Record(folder.sources, stat, old.measure), False
    return Record(folder.sources, stat, audit.measure_song(dataset, folder.sources)), True


# -------------------------------------------------------------------------------------------------------------- records


def _read_records(path: Path) -> dict[str, Record]:
    """Records of an earlier scan by folder; none when there are none or they cannot be understood."""
    try:
        header, *rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
        if (header["format"], header["version"]) != (RECORD_FORMAT, RECORD_VERSION):
            return {}
        return {row["folder"]: _record(row) for row in rows}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        console.warn(f"{path} is damaged: all songs are read again")
        return {}


def _record(row: dict) -> Record:
    stat = {name: tuple(value) for name, value in row["stat"].items()}
    return Record(row["sources"], stat, SongMeasure.from_json(row["measure"]))


def _write_records(path: Path, records: dict[str, Record], findings: list[Finding]) -> None:
    rows: list[dict] = [{"format": RECORD_FORMAT, "version": RECORD_VERSION}]
    for folder, record in sorted(records.items()):
        own = [asdict(finding) for finding in findings if finding.song == folder]
        row = {"folder": folder, "sources": record.sources, "stat": record.stat, "findings": own}
        rows.append({**row, "measure": record.measure.to_json()})
    with atomic_write(path, "w") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# -------------------------------------------------------------------------------------------------------------- summary


def summary(report: Report) -> dict:
    """Numbers of a scan as plain values: songs and hours of each split, rates, channels, stems, findings."""
    songs = report.index.songs if report.index else ()
    splits = {
        split: {
            "songs": sum(song.split == split for song in songs),
            "hours": sum(song.seconds for song in songs if song.split == split) / 3600,
        }
        for split in sorted({song.split for song in songs}, key=["train", "valid", "test"].index)
    }
    return {
        "dataset": str(report.dataset),
        "index": str(report.index.path) if report.index else None,
        "splits": splits,
        "sample_rates": dict(Counter(str(song.sample_rate) for song in songs)),
        "channels": dict(Counter(str(song.channels) for song in songs)),
        "stems": dict(Counter(stem for song in songs for stem in song.sources)),
        "decoded": report.decoded,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "skipped": report.skipped,
        "notes": report.notes,
        "findings": [asdict(finding) for finding in report.findings],
    }
