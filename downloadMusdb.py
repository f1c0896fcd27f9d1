"""Get MUSDB18 and write its songs as <root>/<split>/<song>/{mixture,vocal,instrumental,drums,bass,other}.wav."""

import argparse
import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from run_scripts.options import Parser, positive
from runtime import console
from runtime.errors import UserError

WORK = ".musdb"  # inside the data set: the archive while it is needed, and the note of what is done
BYTES_PER_SECOND = 44100 * 2 * 2  # of one 16-bit stereo track

EPILOG = """\
Without options MUSDB18 is downloaded (4.7 GB; 38 GB as wav files). Each command can be repeated after an interruption:
the transfer goes on where it stopped, and songs that are there are not written again. The music is for research and
teaching, see https://sigsep.github.io/datasets/musdb.html.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="downloadMusdb.py",
        description=__doc__,
        epilog=EPILOG,
    )
    parser.add_argument("--root", "--dataset", type=Path, default=Path("dataset"), help="data set folder (dataset)")
    parser.add_argument(
        "--form",
        choices=("stems", "hq", "sample", "two-track"),
        default="stems",
        help="what to download: MUSDB18 as .stem.mp4 (stems, the default), MUSDB18-HQ as wav (hq, 22.7 GB), excerpts "
        "of seven seconds (sample, 0.15 GB), or MUSDB18 with only mixture, vocal and instrumental written (two-track)",
    )
    parser.add_argument("--two-track", action="store_true", help="write only mixture, vocal and instrumental")
    parser.add_argument(
        "--from-archive",
        "--source",
        type=Path,
        metavar="FILE|DIR",
        help="use this archive or folder instead of a download; it is not changed",
    )
    parser.add_argument(
        "--url",
        nargs="+",
        metavar="URL",
        help="get the archive from these mirrors instead, tried in this order; give --sha256 or --md5 with it",
    )
    checksum = parser.add_mutually_exclusive_group()
    checksum.add_argument("--sha256", type=hexadecimal(64), help="checksum that the archive must have")
    checksum.add_argument("--md5", type=hexadecimal(32), help="checksum that the archive must have")
    parser.add_argument("--keep", action="store_true", help="keep the downloaded archive")
    parser.add_argument("--retries", type=positive, default=4, help="attempts at each mirror that bring nothing (4)")
    parser.add_argument("-j", "--jobs", type=positive, default=os.cpu_count() or 1, help="processes (one a CPU)")
    parser.add_argument(
        "-q", "--quiet", dest="verbosity", action="store_const", const=-1, default=0, help="only errors"
    )
    args = parser.parse(argv)
    if args.from_archive and args.url:
        parser.error("--from-archive and --url exclude each other")
    if args.from_archive and args.from_archive.is_dir() and (args.sha256 or args.md5):
        parser.error("--sha256 and --md5 are sums of a file, but --from-archive is a folder")
    args.two_track = args.two_track or args.form == "two-track"
    args.form = "stems" if args.form == "two-track" else args.form
    return args


def hexadecimal(digits: int) -> Callable[[str], str]:
    """A checksum of so many digits, for argparse."""

    def checksum(text: str) -> str:
        if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", text):
            raise argparse.ArgumentTypeError(f"{text} is not a checksum of {digits} hexadecimal digits")
        return text.lower()

    return checksum


def main(argv: list[str]) -> int:
    args = parse(argv)
    started = time.monotonic()
    job = Job(args)
    if job.is_done():
        console.log(f"all songs are in {args.root} already; nothing to do")
        return 0
    status = job.run()
    console.log(f"took {time.monotonic() - started:.0f} s")
    return status


class Job:
    """One archive on its way into the data set."""

    def __init__(self, args: argparse.Namespace):
        from data.musdb import ARCHIVES

        self.args, self.root, self.work = args, args.root, args.root / WORK
        self.published = None if args.from_archive or args.url else ARCHIVES[args.form]
        self.key = self._key()
        self.folder = self.work / self.key  # holds the archive and what comes out of it
        self.note = self.work / f"{self.key}.json"

    def _key(self) -> str:
        """Short name of this source: another one never continues its half-finished files."""
        args = self.args
        if args.from_archive:
            if not args.from_archive.exists():
                raise UserError(f"--from-archive {args.from_archive}: there is no such file or folder")
            stat = args.from_archive.stat()
            identity = f"{args.from_archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        else:
            known = self.published.md5 if self.published else args.sha256 or args.md5
            identity = known or " ".join(args.url)
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    def is_done(self) -> bool:
        """Whether an earlier run has written everything and all of it is still there."""
        from runtime.files import read_json

        if not self.note.exists():
            return False
        tracks = read_json(self.note)
        if tracks["two_track"] and not self.args.two_track:
            return False
        return all((self.root / name).is_file() for name in tracks["files"])

    def run(self) -> int:
        """All the way from the archive to the songs; the exit status."""
        from runtime.files import alone, require_writable

        source = self.args.from_archive
        if source and source.is_dir() and self.root.resolve().is_relative_to(source.resolve()):
            raise UserError(
                f"--root {self.root} lies in --from-archive {source}, which is never changed: choose another"
            )
        require_writable(self.root)
        with alone(self.work, f"{self.root}: another process is writing songs here; wait for it to end"):
            return self._convert(self._obtain())

    def _obtain(self) -> Path:
        """Folder with the songs as published."""
        from runtime.files import remove_leftovers

        source = self.args.from_archive
        if source and source.is_dir():
            console.log(f"songs from {source} to {self.root}")
            return source
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        unpacked = self.folder / "songs"
        if unpacked.exists():
            console.log(f"going on with what {unpacked} holds")
            return unpacked
        return self._unpack(self._verified(source) if source else self._download(), unpacked)

    @property
    def _sums(self) -> dict[str, str]:
        """Checksum that the archive must have, by algorithm; the user's word counts more than ours."""
        known = {"sha256": self.args.sha256, "md5": self.args.md5}
        given = {algorithm: digest for algorithm, digest in known.items() if digest}
        return given or ({"md5": self.published.md5} if self.published else {})

    def _verified(self, archive: Path) -> Path:
        from runtime.files import checksum

        for algorithm, wanted in self._sums.items():
            found = checksum(archive, algorithm)
            if found != wanted:
                raise UserError(f"--from-archive {archive}: its {algorithm} is {found}, not {wanted}")
        return archive

    def _download(self) -> Path:
        from runtime.files import DownloadError, download, readable, sha256

        published, size = self.published, None
        if published:
            urls, size, name = list(published.urls), published.size, published.file
            title = f"{published.title} ({readable(size)})"
            self._require_space(name)
        else:
            urls = self.args.url
            title = urls[0].partition("?")[0].rpartition("/")[2]
            name = re.sub(r"[^\w.+-]", "_", title)[-80:].lstrip(".") or "archive"
            if not self._sums:
                console.warn("no --sha256 or --md5 given: only lengths and the archive's own checksums are verified")
        console.log(f"{title} from {urls[0]} to {self.root}")
        try:
            archive = download(urls, self.folder / name, size=size, retries=self.args.retries, **self._sums)
        except DownloadError as error:
            raise UserError(f"{error}, or give an archive from elsewhere with --from-archive FILE") from error
        if not self._sums:
            console.log(f"sha256 of {name}: {sha256(archive)}")
        return archive

    def _require_space(self, name: str) -> None:
        """Room for the archive, its contents and the songs together, less what is here already."""
        from runtime.files import require_space

        published, tracks = self.published, 3 if self.args.two_track else 6
        new = published.seconds * BYTES_PER_SECOND * tracks
        contents = published.size if self.args.form != "hq" else 0  # wav files are linked, not copied
        parts = (self.folder / name, self.folder / f"{name}.part")
        here = sum(path.stat().st_size for path in parts if path.exists())
        require_space(self.root, published.size + contents + new - here, f"{published.title} as wav files")

    def _unpack(self, archive: Path, unpacked: Path) -> Path:
        from runtime.files import unpack

        console.log(f"unpacking {archive.name}")
        try:
            return unpack(archive, unpacked)
        except UserError:
            if not (self.args.from_archive or self.published or self.args.sha256 or self.args.md5):
                archive.unlink()  # nothing says that it is what it should be: a second attempt fetches it anew
            raise

    def _convert(self, folder: Path) -> int:
        from data import musdb
        from runtime.files import remove_leftovers

        args = self.args
        songs = musdb.find_sources(folder)
        for split in {song.split for song in songs}:
            remove_leftovers(self.root / split)
        owned = folder != args.from_archive
        outcome = musdb.write_songs(songs, self.root, args.two_track, owned, args.jobs)
        self._say(songs, outcome)
        if outcome.failed:
            rows = sorted(outcome.failed.items())
            console.warn(f"{len(rows)} songs could not be written:\n{console.table(rows, ('song', 'why'))}")
            return 1
        self._finish(songs)
        return 0

    def _say(self, songs: list, outcome) -> None:
        args = self.args
        if outcome.floats:
            tracks = ", ".join(outcome.floats[:3]) + (" …" if len(outcome.floats) > 3 else "")
            console.log(f"{len(outcome.floats)} tracks pass full scale and are 32-bit float, not 16-bit: {tracks}")
        splits = Counter(song.split or "without split" for song in songs)
        counts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
        console.log(f"{len(outcome.written)} songs written, {len(outcome.kept)} were there: {args.root} ({counts})")
        if self.published and len(songs) != self.published.songs:
            console.warn(f"{self.published.title} has {self.published.songs} songs, but {len(songs)} were found")

    def _finish(self, songs: list) -> None:
        """Remove what is needed no longer, and note what was written so that a second run can stop at once."""
        from data import musdb
        from runtime.files import write_json

        if self.folder.exists():  # the songs came out of an archive
            files = [path for song in songs for path in musdb.track_files(song, self.root, self.args.two_track) or ()]
            names = [path.relative_to(self.root).as_posix() for path in files]
            write_json(self.note, {"two_track": self.args.two_track, "files": names})
            shutil.rmtree(self.folder / "songs")
            if self.args.keep and any(self.folder.iterdir()):
                console.log(f"the archive is kept in {self.folder}")
            else:
                shutil.rmtree(self.folder)
        console.log(f"next: python preprocess.py --dataset {self.root}")


if __name__ == "__main__":
    console.run(main)
