"""The shared options: any order, one sentence, overrides for the configuration."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from run_scripts import options
from runtime import console
from runtime.errors import UserError


@pytest.fixture
def parser():
    parser = options.Parser(prog="train")
    options.add_common(parser, "spleeter/2stems")
    options.add_processes(parser)
    parser.add_argument("-m", dest="mode", choices=["train", "fast_train"], default="train")
    parser.add_argument("-bs", dest="train.batch_size", type=options.positive)
    parser.add_argument("-lm", type=options.boolean, default=True)
    yield parser
    console.set_verbosity(0)


def test_flags_and_overrides_in_any_order(parser):
    line = "train.lr=1 -m fast_train -npn 4 model.width=3 -bs 20 -lm False --dataset d -q data.x=[1]"
    found = parser.parse(line.split())
    assert (found.mode, found.processes, found.lm, found.config, found.verbosity) == (
        "fast_train",
        4,
        False,
        "spleeter/2stems",
        -1,
    )
    assert set(options.overrides(found)[:3]) == {"data.dataset=d", "train.processes=4", "train.batch_size=20"}
    assert options.overrides(found)[3:] == ["train.lr=1", "model.width=3", "data.x=[1]"]


def test_nothing_given_changes_nothing(parser):
    found = parser.parse([])
    assert options.overrides(found) == [] and found.processes is None and found.lm is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--devcie cpu", "unknown option --devcie: did you mean --device?"),
        ("-bss 20", "unknown option -bss: did you mean -bs?"),
        ("--batch 20", "unknown option --batch: did you mean -bs?"),
        ("--batch-size 20", "unknown option --batch-size: did you mean -bs?"),
        ("--process 2", "unknown option --process: did you mean -npn?"),
        ("--learning-rate 3", "unknown option --learning-rate: see --help for those that there are (keys of the"),
        ("-m slow", "argument -m: invalid choice: 'slow'"),
        ("-npn 0", "argument -npn: 0 is not a whole number from 1 on"),
        ("-lm maybe", "argument -lm: maybe is neither True nor False"),
        ("-npn", "argument -npn: expected one argument"),
    ],
)
def test_mistakes_are_one_sentence_with_status_2(parser, line, message):
    with pytest.raises(UserError) as caught:
        parser.parse(line.split())
    assert message in str(caught.value) and caught.value.status == 2 and "\n" not in str(caught.value)


def test_booleans():
    assert [options.boolean(text) for text in ("True", "false", "1", "0", "yes", "OFF")] == [True, False] * 3
    with pytest.raises(argparse.ArgumentTypeError):
        options.boolean("")


def test_without_a_configuration_there_are_no_overrides():
    parser = options.Parser()
    options.add_common(parser)
    parser.add_argument("files", nargs="+")
    found = parser.parse(["a.wav", "--device", "cpu", "b.wav"])
    assert found.files == ["a.wav", "b.wav"] and found.device == "cpu"


def test_help_needs_nothing_heavy():
    code = """
import sys
from run_scripts import options
from runtime import checkpoint, config, device, distributed, files, launch
heavy = {"paddle", "hydra", "omegaconf", "tqdm", "safetensors", "scipy", "librosa"} & set(sys.modules)
print(*heavy)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)
