"""Names of stems: one canonical spelling inside the program, the documented spelling and its aliases on disk."""

from pathlib import Path

CANONICAL = ("mixture", "vocals", "accompaniment", "drums", "bass", "other", "piano")

# The two-track layout says `vocal` and `instrumental`; other collections have their own words for the same things.
ALIASES = {
    "mix": "mixture",
    "vocal": "vocals",
    "voice": "vocals",
    "instrumental": "accompaniment",
    "no_vocals": "accompaniment",
    "drum": "drums",
}

# How the documented layout `<dataset>/<split>/<song>/<name>.wav` spells the canonical names.
FILE_NAMES = {"vocals": "vocal", "accompaniment": "instrumental"}

# What networks that restore music give instead of stems, and what they take away from it.
RESTORED, ADDITION = "restored", "addition"

# What an accompaniment is made of when it has no file of its own; piano belongs to `other` where it is not split off.
ACCOMPANIMENT_PARTS = ("drums", "bass", "other")
OPTIONAL_PARTS = ("piano",)

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")


def canonical(name: str) -> str | None:
    """Canonical name of a stem given in any known spelling, or None for a word that names no stem."""
    word = name.strip().lower()
    word = ALIASES.get(word, word)
    return word if word in CANONICAL else None


def file_name(stem: str) -> str:
    """File name without suffix of a canonical stem in the documented layout: `vocals` is stored as `vocal`."""
    return FILE_NAMES.get(stem, stem)


def stem_of_file(path: str | Path) -> str | None:
    """Canonical stem that a file holds, judged by its name and suffix; None when it is not a stem."""
    path = Path(path)
    return canonical(path.stem) if path.suffix.lower() in AUDIO_SUFFIXES else None


def parts_of(stem: str, available) -> tuple[str, ...] | None:
    """Stems whose sum is `stem` among the `available` ones, `(stem,)` itself included; None when it cannot be had.

    The accompaniment is the sum of drums, bass, other (and piano where it is separate). Nothing is derived by
    subtraction from the mixture: that would put the errors of a lossy or mastered mixture into the stem.
    """
    if stem in available:
        return (stem,)
    if stem == "accompaniment" and all(part in available for part in ACCOMPANIMENT_PARTS):
        return ACCOMPANIMENT_PARTS + tuple(part for part in OPTIONAL_PARTS if part in available)
    return None
