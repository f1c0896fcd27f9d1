"""Configurations with the keys of the Apollo-Training fork."""

import pytest
import yaml

from runtime import config
from runtime.errors import UserError
from training.apollo_yaml import as_ours, is_original, translate

FILE = config.CONFIGS / "apollo.yaml"


@pytest.fixture
def changed(tmp_path):
    """``changed(lambda content: …)``: the repository's file with changes."""

    def make(change):
        content = yaml.safe_load(FILE.read_text())
        change(content)
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "mine.yaml"

    return make


def loaded(path):
    with as_ours(path) as (file, _):
        return config.load(str(file), group="apollo")


def test_the_file_of_the_repository_says_what_the_base_says():
    cfg = loaded(FILE)
    assert (cfg.config_name, cfg.config_base) == ("apollo", "apollo/base")
    assert config.diff(cfg, config.base_of(cfg)) == {
        "data.train.folders": ["dataset/apollo/train"],
        "data.valid.folders": ["dataset/apollo/valid"],
        "data.workers": 0,
        "model_dir": "./exps",
    }
    assert is_original(FILE) and not is_original(config.CONFIGS / "apollo" / "base.yaml") and not is_original("none")
    assert [note.split(":")[0] for note in translate(FILE).notes] == ["checkpoint", "logger", "trainer"]


def test_values_arrive(changed):
    def change(content):
        content["exp"] = {"dir": "runs", "name": "mine"}
        content["seed"] = 5
        content["datas"] |= {"dataset_type": 2, "segments": 3, "num_steps": 7, "batch_size": 4}
        content["datas"]["train"]["dir"] = ["a", "b"]
        content["model"] |= {"sr": 48000, "feature_dim": 384, "layer": 3}
        content["optimizer_d"] = {"_target_": "torch.optim.Adam", "lr": 0.5}
        content["scheduler_g"] = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9}
        content["metrics"]["sdr_type"] = "snr"
        content["trainer"] |= {"devices": [0, 1], "max_epochs": 9, "accelerator": "cpu"}
        content["checkpoint"]["save_top_k"] = 3
        del content["early_stopping"], content["logger"]

    cfg = loaded(changed(change))
    train, data = cfg.train, cfg.data
    assert (cfg.config_name, cfg.model_dir, cfg.device, train.seed) == ("mine", "runs", "cpu", 5)
    assert (data.type, data.segment, data.samples_per_epoch, train.batch_size) == (2, 3.0, 7, 4)
    assert (data.train.folders, cfg.model.sr, cfg.model.feature_dim, cfg.model.layer) == (["a", "b"], 48000, 384, 3)
    assert (train.discriminator.lr, train.discriminator.weight_decay, train.weight_decay) == (0.5, 0.0, 0.01)
    assert (train.schedule.factor, train.schedule.every, train.discriminator.schedule.every) == (0.9, 1, 2)
    assert (train.metric, train.processes, train.epochs, train.keep_best) == ("snr", 2, 9, 3)
    assert (train.early_stop.patience, train.visualdl) == (None, False)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("optimizer_g", {"_target_": "torch.optim.SGD"}, r"optimizer_g\._target_=torch\.optim\.SGD.*AdamW"),
        ("datas", {"_target_": "look2hear.datas.MusdbMoisesdbDataModule"}, "MusdbMoisesdbDataModule"),
        ("callbacks", {}, "unknown section callbacks"),
        ("model", {"sr": 44100, "layers": 6}, r"unknown key model\.layers.*layer"),
        ("metrics", {"zero_mean": False}, r"metrics\.zero_mean=False"),
        ("early_stopping", {"monitor": "train_loss"}, "only val_loss"),
        ("trainer", {"limit_train_batches": 0.5}, r"datas\.num_steps"),
        ("optimizer_d", {"_target_": "torch.optim.Adam", "weight_decay": 0.1}, "AdamW"),
        ("model", 3, "model must consist"),
    ],
)
def test_what_there_is_nothing_for_is_refused(changed, section, value, message):
    with pytest.raises(UserError, match=message):
        translate(changed(lambda content: content.update({section: value})))
