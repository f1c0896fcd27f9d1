"""Names, descriptions and their errors."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest

import models
from models.spleeter_config import SpleeterConfig, from_official
from runtime.errors import UserError


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("spleeter_2stems", "spleeter_2stems"),
        ("2stems", "spleeter_2stems"),
        ("spleeter:4stems", "spleeter_4stems"),
        ("spleeter:5stems-16kHz", "spleeter_5stems_16khz"),
        ("spleeter/2stems", "spleeter_2stems"),
        ("spleeter:musdb", "spleeter_musdb"),
    ],
)
def test_spellings(spelling, name):
    assert models.resolve(spelling) == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean spleeter_4stems"):
        models.describe("4stem")


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="no option 'filter'; did you mean filters"):
        models.create("spleeter_2stems", filter=[1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frequency_bins": 100}, "multiple of 64"),
        ({"segment_frames": 0}, "multiple of 64"),
        ({"frequency_bins": 2112}, "more than the 2049 bins"),
        ({"filters": [1, 2, 3]}, "filters needs 6"),
        ({"output": "linear"}, "not one of sigmoid, softmax"),
        ({"conv_activation": "GELU"}, "not one of LeakyReLU"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"instruments": ["vocals", "vocals"]}, "twice"),
        ({"instruments": "vocals"}, "list of stem names"),
        ({"instruments": [1]}, "list of stem names"),
        ({"instruments": ["vocals", "a/b"]}, "'a/b' cannot be the name of a file"),
        ({"instruments": [" "]}, "cannot be the name of a file"),
        ({"filters": [1.5] * 6}, "positive numbers, got .*whole"),
        ({"filters": "123456"}, "positive numbers, got .*whole"),
        ({"sample_rate": "44100"}, "sample_rate='44100' must be at least 1 and whole"),
        ({"frequency_bins": 64.0}, "multiple of 64"),
        ({"frame_step": 4097}, "more than frame_length=4096"),
        ({"dropout": "half"}, "dropout='half' must be at least 0"),
        ({"seed": -1}, "seed=-1 must be at least 0 and whole"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(UserError, match=says):
        models.describe("spleeter_2stems", **options)


def test_descriptions_are_what_the_network_has_and_frozen():
    description = models.describe("spleeter_4stems_16khz")
    assert description.sources == ("vocals", "drums", "bass", "other")
    assert (description.sample_rate, description.channels, description.eats) == (44100, 2, "magnitude")
    assert (description.segment, description.context) == (512 * 1024, 0)
    assert description.config["frequency_bins"] == 1536 and description.config["conv_activation"] == "ELU"
    with pytest.raises(dataclasses.FrozenInstanceError):
        description.name = "other"
    with pytest.raises(TypeError):
        description.config["channels"] = 1
    assert models.create("spleeter_2stems", filters=[2] * 6).description == models.describe("2stems", filters=[2] * 6)


def test_descriptions_and_networks_can_be_copied():
    description = models.describe("2stems", filters=[2] * 6)
    assert pickle.loads(pickle.dumps(description)) == description and len({description, description}) == 1
    assert copy.deepcopy(models.create("2stems", filters=[2] * 6)).description == description


def test_names_are_listed_without_paddle():
    code = "import sys, models; print(*map(models.describe, models.names())); sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_official_parameter_files():
    params = {
        "instrument_list": ["vocals", "piano", "drums", "bass", "other"],
        "F": 1536,
        "model": {"type": "unet.softmax_unet", "params": {"conv_activation": "ELU", "deconv_activation": "ELU"}},
    }
    published = models.describe("spleeter_5stems_16khz")
    assert SpleeterConfig(**from_official(params)).describe(published.name) == published
    mono = from_official({**params, "n_channels": 1, "model": {"params": {"conv_n_filters": [1] * 6}}})
    assert (mono["channels"], mono["mask_channels"], mono["output"]) == (1, 2, "sigmoid")
    assert (mono["conv_activation"], mono["deconv_activation"]) == ("LeakyReLU", "ReLU")
    longer = from_official({**params, "model": {"params": {"conv_n_filters": [1, 2, 3, 4, 5, 6, 7]}}})
    assert longer["filters"] == (1, 2, 3, 4, 5, 6)
    with pytest.raises(UserError, match="instrument_list"):
        from_official({})
    with pytest.raises(UserError, match=r"blstm\.blstm"):
        from_official({**params, "model": {"type": "blstm.blstm"}})
