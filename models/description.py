"""What the rest of the program needs to know of a network without building it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal


@dataclass(frozen=True)
class Description:
    """Facts about one network; ``model.description`` and ``models.describe(name)`` are equal.

    Attributes:
        name: registry name, or the family name for a network with its own options
        sources: canonical stem names in the order of the source axis
        sample_rate: Hz
        channels: audio channels the network works on
        eats: what the forward call takes
        segment: natural length of one input, samples
        context: samples at each edge of a chunk that a chunked run must discard
        config: constructor arguments that rebuild the network (read-only)
        fixed_length: whether the network works best on inputs of exactly ``segment`` samples and takes none longer
        hop: samples from one chunk to the next, for networks that separate overlapping chunks of a stream, each at its
            own level; 0 for those that hear a song at the level of the whole song
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    channels: int
    eats: Literal["waveform", "magnitude", "mel"]
    segment: int
    context: int
    config: Mapping[str, Any] = field(hash=False)
    fixed_length: bool = False
    hop: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", MappingProxyType(dict(self.config)))

    def __reduce__(self) -> tuple:
        # a read-only mapping can be neither copied nor pickled by itself
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return _restore, ({**values, "config": dict(self.config)},)


def _restore(values: dict[str, Any]) -> Description:
    return Description(**values)
