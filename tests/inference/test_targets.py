"""Networks of one stem each that run as one separator: Python, separator.py and eval.py."""

import json
from pathlib import Path

import numpy as np
import pytest

import eval as eval_door
import models
import separator as separator_door
from data.scan import build_index
from data.synthetic import write_songs
from dsp import audio
from inference import planning, scoring
from inference.apply import apply_model, networks
from inference.separator import Separator
from pretrained import Targets, reference_state
from runtime.errors import UserError
from tests.inference.waves import FakeWave
from tests.pretrained.torch_writer import save

SMALL = {"fc_dim": 4, "rnn_dim": 4, "mlp_dim": 4, "num_layers": 1, "t_timesteps": 17, "bandsplits": "V1"}
STEMS = ("vocals", "drums", "bass", "other")  # canonical order


def network(stem, **options):
    return models.create(f"bsrnn_{stem}", **{**SMALL, **options})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Stem -> file in the form of the original, with the weights that a seed gives."""
    folder = tmp_path_factory.mktemp("saved_models")
    found = {}
    for seed, stem in enumerate(STEMS):
        found[stem] = folder / stem / f"{stem}.pt"
        found[stem].parent.mkdir()
        save(reference_state(network(stem, seed=seed)), found[stem])
    return found


def listed(files, *stems):
    return ",".join(str(files[stem]) for stem in stems)


def test_stems_come_in_canonical_order_whoever_is_named_first(files, noise):
    mix = noise(2, 9000)
    together = Separator(listed(files, "other", "vocals", "bass", "drums"))
    assert together.sources == STEMS
    assert together.name == "bsrnn_vocals+bsrnn_drums+bsrnn_bass+bsrnn_other"
    stems = together.separate(mix, residual=True)
    np.testing.assert_allclose(sum(stems.values()), mix, rtol=0, atol=1e-6)
    hashes = {together.weights_hash}
    for stem in STEMS:
        alone = Separator(files[stem])
        np.testing.assert_array_equal(stems[stem], alone.separate(mix)[stem])
        hashes.add(alone.weights_hash)
    assert len(hashes) == 5


def test_networks_in_memory_run_together():
    crew = [network(stem) for stem in ("bass", "vocals")]
    both = Targets.of(crew, "both")
    assert both.models == (crew[1], crew[0])
    assert networks(both) == [crew[1], crew[0]]
    assert both.sources == Separator.from_model(both).sources == ("vocals", "bass")


def test_what_networks_together_are_like():
    crew = [network("vocals", t_timesteps=None, segment_samples=9000), network("other", target="piano")]
    facts = Targets.of(crew).description
    assert (facts.sources, facts.segment, facts.channels) == (("vocals", "piano"), 9000, 2)
    assert facts.hop == max(model.description.hop for model in crew)


def test_networks_that_do_not_fit_together_are_refused():
    vocals = network("vocals")
    for other, message in (
        (network("vocals", seed=3), "two of the networks separate vocals"),
        (network("bass", sr=48000), "one sample rate, and these differ: vocals 44100, bass 48000"),
        (network("bass", is_mono=True), "one number of channels, and these differ"),
        (models.create("apollo", feature_dim=16, layer=1), "apollo restores music and separates nothing"),
        (FakeWave(), "fake separates vocals, rest: only networks that separate one stem each"),
    ):
        with pytest.raises(UserError, match=message):
            Targets.of([vocals, other])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bsrnn_vocals,,bsrnn_bass", "between two commas a network is missing"),
        ("bsrnn_vocals,bsrnn_piano", "there is no network called 'bsrnn_piano'"),
        ("bsrnn_vocals,htdemucs", "htdemucs does not run together with others"),
        ("spleeter_2stems,bsrnn_bass", "spleeter_2stems does not run together with others"),
        ("apollo,{vocals}", "apollo restores music and separates nothing, so it does not run together with others"),
        ("{vocals},{vocals}", "two of the networks separate vocals"),
    ],
)
def test_names_that_make_no_sense_together(files, name, message):
    with pytest.raises(UserError, match=message):
        planning.plan(name.format(**files), offline=True)


def test_weights_of_one_network_are_not_for_several(files):
    with pytest.raises(UserError, match="--weights goes with one network"):
        planning.plan(listed(files, "vocals", "bass"), weights=files["vocals"])


def test_a_path_with_a_comma_is_a_path(files, tmp_path):
    path = tmp_path / "a,b" / "vocals.pt"
    path.parent.mkdir()
    path.write_bytes(files["vocals"].read_bytes())
    assert planning.plan(str(path)).targets == ()


def test_a_plan_survives_the_way_to_other_processes(files, tmp_path):
    plan = planning.plan(listed(files, "bass", "vocals"))
    job = scoring.Job(plan, "index", ("song",), tmp_path)
    read = scoring.Job.read(job.write(tmp_path / "job.json"))
    assert [each.network for each in read.plan.targets] == ["bsrnn_vocals", "bsrnn_bass"]
    assert read.plan.description == plan.description
    assert [each.weights for each in read.plan.targets] == [files["vocals"], files["bass"]]


def test_demucs_way_of_averaging_is_not_theirs(files):
    both = Targets.of([network("vocals"), network("bass")])
    with pytest.raises(UserError, match=r"use inference\.Separator"):
        apply_model(both, np.zeros((1, 2, 9000), np.float32))


def test_separator_writes_all_stems(files, tmp_path, noise):
    song = tmp_path / "song.wav"
    with audio.AudioWriter(song, 44100, 2) as writer:
        writer.write(noise(2, 7001))
    out = tmp_path / "out"
    names = listed(files, "bass", "vocals")
    assert separator_door.main([str(song), "-n", names, "-o", str(out), "-d", "cpu", "-q"]) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.wav"))
    assert written == ["song/bass.wav", "song/vocals.wav"]
    assert {audio.probe(out / name).frames for name in written} == {7001}
    two = tmp_path / "two"
    words = [str(song), "-n", names, "--two-stems", "vocals", "-o", str(two), "-d", "cpu", "-q"]
    assert separator_door.main(words) == 0
    assert sorted(path.stem for path in two.rglob("*.wav")) == ["no_vocals", "vocals"]


def test_eval_scores_all_stems(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_songs(Path("songs"), 1, 1.2, seed=0, splits={"test": 1})
    build_index(Path("songs"), jobs=1)
    words = ["-n", listed(files, "drums", "vocals"), "--dataset", "songs", "--fraction", "1", "--device", "cpu"]
    assert eval_door.main([*words, "--json", "result.json"]) == 0
    (score,) = (tmp_path / "evaluation").rglob("test/*.json")
    assert score.parents[1].name == "bsrnn_vocals+bsrnn_drums"
    assert json.loads(score.read_text("utf-8"))["details"]["nsdr"]["estimate"].keys() == {"vocals", "drums"}
    assert Path("result.json").is_file()
