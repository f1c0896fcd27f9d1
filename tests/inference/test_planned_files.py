"""Plans from files of BandSplitRNN's original, and where its weights are looked for."""

from pathlib import Path

import pytest

import models
import pretrained
from inference import planning
from pretrained import lightning, reference_state
from runtime import checkpoint
from runtime.errors import UserError
from tests.pretrained.torch_writer import lightning as lightning_content
from tests.pretrained.torch_writer import save

SMALL = {"fc_dim": 8, "rnn_dim": 4, "mlp_dim": 6, "num_layers": 1, "t_timesteps": 9}


def state_of(**options):
    return reference_state(models.create("bsrnn_vocals", **{**SMALL, **options}))


@pytest.fixture(scope="module")
def state():
    """Reference name -> array of a small network with the bands V7."""
    return state_of()


def written(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(content, path)
    return path


def test_a_file_is_planned_with_the_frames_it_was_made_for(tmp_path, state):
    path = written(tmp_path / "vocals" / "vocals.pt", state)
    for plan in (planning.plan(path), planning.plan("bsrnn_vocals", path), planning.plan(None, path)):
        assert (plan.network, plan.weights, plan.label) == ("bsrnn_vocals", path, "bsrnn_vocals")
        assert plan.description.fixed_length
        assert plan.description.segment == 8 * 512
    plan = planning.plan(f"{path}{lightning.RAW}")
    assert (plan.label, plan.weights) == ("bsrnn_vocals-raw", Path(f"{path}{lightning.RAW}"))


def test_the_stem_must_be_known_and_the_one_that_was_asked_for(tmp_path, state):
    path = written(tmp_path / "x.pt", state)
    with pytest.raises(UserError, match=r"x\.pt does not say which stem it separates: name the network"):
        planning.plan(path)
    assert planning.plan("bsrnn_other", path).description.sources == ("other",)
    with pytest.raises(UserError, match=r"x\.pt holds weights of a BandSplitRNN, not of spleeter_2stems"):
        planning.plan("spleeter_2stems", path)
    configured = lightning_content(state, hyper_parameters={"train_dataset": {"target": "other"}})
    files = {"vocals": ("vocals/vocals.pt", state), "other": ("drums/epoch1.ckpt", configured)}
    for stem, (name, content) in files.items():
        path = written(tmp_path / name, content)
        with pytest.raises(UserError, match=f"holds weights for {stem}, not for bass"):
            planning.plan("bsrnn_bass", path)
    assert planning.plan(written(tmp_path / "y.pt", state_of(bandsplits="drums"))).network == "bsrnn_drums"


def test_weights_that_nobody_names_are_looked_for(tmp_path, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"drive\.google\.com.*checksum.*saved_models/vocals/vocals\.pt"):
        planning.plan("bsrnn_vocals")
    with pytest.raises(UserError, match=r"none were ever published.*saved_models/bass/bass\.pt"):
        planning.plan("bsrnn_bass")
    facts = {"network": "bsrnn_vocals", "config": {"model": SMALL}}
    runs = tmp_path / "model" / "bsrnn"
    vocals = checkpoint.save(runs / "a" / "0a1b2c3d" / "checkpoints", {"model": {}}, {**facts, "step": 5})
    other = {**facts, "step": 9, "network": "bsrnn_drums"}
    checkpoint.save(runs / "b" / "0a1b2c3d" / "checkpoints", {"model": {}}, other)
    assert planning.plan("bsrnn_vocals").weights.resolve() == vocals.resolve()
    path = written(Path("saved_models/vocals/vocals.pt"), state)
    assert planning.plan("bsrnn_vocals").weights == path
    assert pretrained.resolve("bsrnn_vocals") == path


def test_raw_weights_of_a_run(tmp_path):
    facts = {"step": 1, "network": "bsrnn_vocals", "config": {"model": SMALL}}
    folder = checkpoint.save(tmp_path / "run" / "checkpoints", {"model": {}, "ema": {}}, facts)
    plan = planning.plan(f"{tmp_path / 'run'}{lightning.RAW}")
    assert plan.description.config["t_timesteps"] == 9
    assert str(plan.weights) == f"{folder}{lightning.RAW}"
