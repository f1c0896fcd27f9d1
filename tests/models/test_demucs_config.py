"""Options of the time-domain networks."""

import json
from fractions import Fraction

import pytest

import models
from models.demucs_config import exact_segment, from_classic, segment_samples
from runtime.errors import UserError


@pytest.mark.parametrize(
    ("given", "kept", "samples"),
    [
        (40, 40, 1_764_000),
        (7.5, 7.5, 330_750),
        ("39/5", "39/5", 343_980),
        (Fraction(39, 5), "39/5", 343_980),
        (Fraction(80, 2), 40, 1_764_000),
        ("11", 11, 485_100),
        ("1.1", 1.1, 48_510),
    ],
)
def test_segments_stay_exact(given, kept, samples):
    assert exact_segment(given) == kept and type(exact_segment(given)) is type(kept)
    description = models.describe("demucs", segment=given)
    assert description.segment == samples == segment_samples(kept, 44100)
    assert json.loads(json.dumps(dict(description.config)))["segment"] == kept


@pytest.mark.parametrize("segment", ["soon", "1/0", 0, -1, float("inf"), float("nan"), None, True, 1e-9])
def test_segments_that_are_none(segment):
    with pytest.raises(UserError, match="segment"):
        models.describe("demucs", segment=segment)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("demucs", {"sources": "vocals"}, "list of stem names"),
        ("demucs", {"sources": ("a", "a")}, "twice"),
        ("demucs", {"sources": ("a/b",)}, "name of a file"),
        ("demucs", {"depth": 0}, "depth"),
        ("demucs", {"channels": 2.5}, "channels"),
        ("demucs", {"growth": 0.01}, "no channels"),
        ("demucs", {"rewrite": 1}, "rewrite"),
        ("demucs", {"dconv_mode": 4}, "dconv_mode"),
        ("demucs", {"dconv_comp": 1000}, "none of the 64 channels"),
        ("demucs", {"dconv_comp": 64, "dconv_attn": 0}, "four heads"),
        ("demucs", {"channels": 6, "growth": 1.0}, "norm_groups"),
        ("demucs", {"rescale": -1}, "rescale"),
        ("demucs_v1", {"context": 0}, "context"),
        ("demucs_v1", {"upsample": "yes"}, "upsample"),
        ("demucs_v2", {"upsample": True}, "no option"),
        ("tasnet", {"norm_type": "gln"}, "norm_type"),
        ("tasnet", {"P": 2}, "odd"),
        ("tasnet", {"L": 1}, "L"),
    ],
)
def test_impossible_options_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        models.describe(name, **options)


def test_a_fraction_of_the_channels_only_matters_where_branches_are():
    assert models.describe("demucs", dconv_comp=1000, dconv_mode=0)
    assert models.describe("demucs", dconv_comp=1000, dconv_depth=0)


def test_options_of_the_first_generations():
    options = from_classic({"sources": 4, "channels": 8, "segment_length": 66150, "samplerate": 22050})
    assert options == {
        "sources": ("drums", "bass", "other", "vocals"),
        "channels": 8,
        "segment": 3,
        "samplerate": 22050,
    }
    assert models.describe("demucs_v2", **options).segment == 66150
    assert from_classic({"C": 2, "X": 8}) == {"sources": ("source1", "source2"), "audio_channels": 1, "X": 8}
    assert models.describe("tasnet").config["X"] == 10
