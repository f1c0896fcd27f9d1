"""What experiments leave behind, and how far they are; the networks that they train."""

import json
from fractions import Fraction

import pytest

import models
from runtime import console
from runtime.errors import UserError
from training import prepare, xp, xp_store
from training.xp_network import example_length, exported, network


@pytest.fixture
def experiment(tmp_path):
    return xp.compose(["epochs=2", f"dora.dir={tmp_path}"])


def test_states_of_an_experiment(experiment):
    assert (xp_store.state(experiment), xp_store.history(experiment)) == ("new", [])
    assert xp_store.initialise(experiment) == experiment.folder
    assert xp_store.state(experiment) == "ready"
    with prepare.claim(experiment.folder):
        assert xp_store.state(experiment) == "running"
    lines = [{"valid": {"loss": 1.0}}, {"valid": {"loss": 0.5}, "test": {"nsdr": 3.0}}]
    path = experiment.folder / "history.jsonl"
    path.write_text(json.dumps(lines[0]) + "\n")
    assert xp_store.state(experiment) == "stopped"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert xp_store.state(experiment) == "done" and xp_store.is_done(experiment)
    assert xp_store.last_scores(experiment) == ({"loss": 0.5}, {"nsdr": 3.0})
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        xp_store.history(experiment)


def test_a_look_at_an_experiment_does_not_follow_it(tmp_path):
    look = xp.compose(["epochs=2", "flag=debug", "misc.show=true", f"dora.dir={tmp_path}"])
    xp_store.initialise(look)
    again = xp.load(look.signature, [f"dora.dir={tmp_path}"])
    assert (again.cfg.epochs, again.cfg.flag, again.cfg.misc.show) == (2, None, False)


def test_what_is_said_goes_into_the_log(experiment, capsys):
    with pytest.raises(UserError, match="no log yet"):
        xp_store.latest_log(experiment)
    xp_store.initialise(experiment)
    for line in ("first session", "second session"):
        with xp_store.logged(experiment):
            print(line)
    console.warn("not in the log any more")
    assert xp_store.latest_log(experiment).read_text() == capsys.readouterr().out == "first session\nsecond session\n"
    with xp_store.logged(experiment):
        console.warn("beware")
    assert xp_store.latest_log(experiment).read_text().endswith("session\nwarning: beware\n")


@pytest.mark.parametrize(
    ("signature", "name", "segment"),
    [
        ("955717e8", "htdemucs", Fraction(39, 5)),
        ("f7e0c4bc", "htdemucs", Fraction(39, 5)),
        ("75fc33f5", "hdemucs", 40),
        ("9a6b4851", "demucs", 44),
        ("c511e2ab", "hdemucs", 112),
    ],
)
def test_networks_of_published_experiments(signature, name, segment):
    cfg = xp.load(signature).cfg
    found, options = exported(cfg)
    assert (found, options["segment"]) == (name, segment)
    assert models.describe(found, **options).segment == segment * 44100
    assert network(cfg)[1]["segment"] == (cfg.model_segment or 4 * cfg.dset.segment)


def test_a_training_example_is_cropped_by_repitching_and_shifted():
    assert example_length(xp.load("955717e8").cfg) == 343980
    assert example_length(xp.compose().cfg) == 382788
    assert example_length(xp.compose(["augment.repitch.proba=0"]).cfg) == 441000
    with pytest.raises(UserError, match=r"dset\.shift=11"):
        example_length(xp.compose(["dset.shift=11"]).cfg)
