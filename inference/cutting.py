"""How a network's chunks of a stream are cut, by its description and what was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dsp.chunks import hop_of
from inference.apollo_chunked import WAYS, Original
from inference.surrounded import Surrounded
from inference.windowed import NORMALISED, Windowing
from inference.windowed import WINDOWS as _PLAIN
from models.demucs_config import segment_samples
from runtime.errors import UserError

if TYPE_CHECKING:
    from inference.options import Options

WINDOWS = tuple(dict.fromkeys((*_PLAIN, *WAYS)))  # of all networks


Cutting = Windowing | Surrounded | Original


def cutting(model: Any, options: Options) -> Cutting:
    """The chunks of one network, for ``options`` with nothing left open but segment and overlap.

    Raises:
        UserError: a segment, an overlap or a window that it cannot have
    """
    surrounded = model.description.context > 0
    known = (NORMALISED, *WAYS) if surrounded else _PLAIN
    if options.window not in known:
        raise UserError(f"window={options.window} is none of {', '.join(known)}, which {model.description.name} has")
    if not surrounded:
        return _plain(model, options)
    return _inner(model, options) if options.window == NORMALISED else _original(model, options)


def _plain(model: Any, options: Options) -> Windowing:
    """All of a chunk counts."""
    facts = model.description
    size, hop = facts.segment, facts.hop
    if options.segment is not None:
        size = model.valid_length(round(facts.sample_rate * options.segment))
        if facts.fixed_length and size != round(facts.sample_rate * options.segment):
            own = facts.segment / facts.sample_rate
            raise UserError(f"{facts.name} takes segments of {own:g} s and no others: leave --segment out")
        hop = max(1, round(size * facts.hop / facts.segment))
    if options.overlap is not None:
        hop = hop_of(size, options.overlap)
    if hop < 1:
        raise UserError(f"a segment of {size} samples with an overlap of {options.overlap:g} leaves no step")
    return Windowing(size, hop, options.window, options.batch, options.jobs)


def _inner(model: Any, options: Options) -> Surrounded:
    """The ends of a chunk are only there for what is between them. With a small overlap less of them is left out."""
    facts = model.description if options.segment is None else model.described(options.segment)
    how = Surrounded(facts.segment, facts.hop, facts.context, model.unit, options.batch, options.jobs)
    if options.overlap is None:
        return how
    hop = max(hop_of(how.size, options.overlap) // model.unit, 1) * model.unit  # chunks lie whole frames apart
    return replace(how, hop=hop, margin=min(how.margin, (how.size - hop) // 2))


def _original(model: Any, options: Options) -> Original:
    facts = model.description
    size = segment_samples(facts.config["segment"], facts.sample_rate)
    if options.segment is not None:
        size = round(facts.sample_rate * options.segment)
    share = WAYS[options.window] if options.overlap is None else options.overlap
    return Original(options.window, size, share, options.batch)
