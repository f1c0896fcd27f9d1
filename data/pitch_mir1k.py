"""MIR-1K, a thousand clips of karaoke singing with their pitch: where it is published, and how it is unpacked.

Chao-Ling Hsu and Jyh-Shing Roger Jang, "On the Improvement of Singing Voice Separation for Monaural Recordings Using
the MIR-1K Dataset", 2010. It comes without a division for pitch, so that one by singers is drawn.
"""

import shutil
import subprocess
from pathlib import Path

from runtime import console
from runtime.errors import UserError
from runtime.files import DownloadError, atomic_folder, download, unpack

CLIPS, SINGERS = 1000, 19
# The publisher gives no checksum. The second address is a copy by a third party, and so is the rar file at Figshare.
ZIP = (
    "http://mirlab.org/dataset/public/MIR-1K.zip",
    "https://huggingface.co/datasets/AnhP/Mir-1k-use-DJCM-training/resolve/main/MIR-1K.zip",
)
RAR = ("https://ndownloader.figshare.com/files/10256751", "http://mirlab.org/dataset/public/MIR-1K.rar")
RAR_BYTES = 797_386_646
TERMS = "MIR-1K is for research; see https://sites.google.com/site/unvoicedsoundseparation/mir-1k"
UNPACKERS = {
    "unrar": ("x", "-idq", "-o+", "{archive}", "{folder}/"),
    "7z": ("x", "-y", "-bd", "-o{folder}", "{archive}"),
    "7zz": ("x", "-y", "-bd", "-o{folder}", "{archive}"),
    "bsdtar": ("-x", "-f", "{archive}", "-C", "{folder}"),
}


def fetch(folder: Path, urls: list[str] | None = None, sha256: str | None = None) -> Path:
    """Download the archive to `folder` and return it; what is there already is kept, a part of it goes on.

    Raises:
        DownloadError: no address delivered
    """
    if urls:
        name = urls[0].partition("?")[0].rpartition("/")[2] or "archive"
        return download(urls, folder / name, sha256=sha256)
    console.log(TERMS)
    for name in ("MIR-1K.zip", "MIR-1K.rar"):
        if (folder / name).exists():
            return folder / name
    try:
        return download(ZIP, folder / "MIR-1K.zip")
    except DownloadError as error:
        if unpacker() is None:
            raise
        console.warn(f"{error}; trying the rar file")
        return download(RAR, folder / "MIR-1K.rar", size=RAR_BYTES)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack a zip, tar or rar file to `folder`, which appears when all of it is there.

    Raises:
        UserError: damaged, nothing is installed that reads rar, or links in it
    """
    with open(archive, "rb") as handle:
        is_rar = handle.read(4) == b"Rar!"
    if not is_rar:
        return unpack(archive, folder)
    program = unpacker()
    if program is None:
        raise UserError(
            f"{archive} is a rar file and none of {', '.join(UNPACKERS)} is installed: install one of them, or unpack "
            "it elsewhere and give the folder with -i"
        )
    with atomic_folder(folder) as temporary:
        places = {"archive": archive.resolve(), "folder": temporary}
        command = [program, *(part.format(**places) for part in UNPACKERS[program])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if done.returncode:
            why = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
            raise UserError(f"{program} could not unpack {archive} ({why}): download it again")
        if any(path.is_symlink() for path in temporary.rglob("*")):
            raise UserError(f"{archive} holds links and is refused: get it from its publisher")
    return folder


def unpacker() -> str | None:
    """An installed program that reads rar files."""
    return next((name for name in UNPACKERS if shutil.which(name)), None)
