"""Configurations over a folder of our own, and that those of the repository load."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime import config
from runtime.errors import UserError

BASE = """# @package _global_
network: toy
model: {width: 8, dropout: 0.0, stems: [vocals, drums], seed: "${train.seed}"}
data: {dataset: dataset, index: "${data.dataset}/index.jsonl", cache: cache, extra: null, augment: {}}
train: {lr: 1.0e-3, steps: 100, epochs: null, amp: false, seed: 0, betas: [0.9, 0.999]}
machine_only: [data.dataset, data.index, train.steps, machine_only, data.cache]
nullable: [train.steps]
"""
WIDE = "# @package _global_\ndefaults: [base, _self_]\nmodel: {width: 16}\n"


@pytest.fixture
def configs(tmp_path) -> Path:
    folder = tmp_path / "configs of, mine" / "toy"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text(BASE)
    (folder / "wide.yaml").write_text(WIDE)
    (folder / "typo.yaml").write_text(WIDE.replace("width", "widht"))
    return folder.parent


@pytest.fixture
def load(configs):
    return lambda name="toy/base", *overrides, **more: config.load(name, overrides, configs=configs, **more)


@pytest.fixture
def signature(configs):
    return lambda cfg: config.signature(cfg, config.base_of(cfg, configs))


def test_a_variant_lies_over_its_base_at_the_root(load, configs):
    cfg = load("toy/wide")
    assert (cfg.model.width, cfg.model.dropout, cfg.network) == (16, 0.0, "toy")
    assert (cfg.config_name, cfg.config_base) == ("toy/wide", "toy/base")
    assert load("wide", group="toy") == cfg
    assert load(str(configs / "toy" / "wide.yaml")) == cfg
    assert config.diff(cfg, config.base_of(cfg, configs)) == {"model.width": 16}


def test_overrides_take_the_type_of_their_default(load):
    cfg = load(
        "toy/wide",
        "model.width=4",
        "train.lr=1",
        "train.lr=2",
        "train.steps=1e3",
        "train.epochs=2.5",
        "train.amp=true",
        "model.stems=[piano]",
        "train.betas=[0,1]",
        "data.dataset=/a b/c,d (e)='f'",
        "data.cache=2024",
        "data.augment={gain: 3}",
        "data.extra=[1,x]",
    )
    assert (cfg.model.width, cfg.train.lr, cfg.train.steps, cfg.train.epochs) == (4, 2.0, 1000, 2.5)
    assert isinstance(cfg.train.lr, float) and isinstance(cfg.train.steps, int)
    assert cfg.train.amp is True and cfg.model.stems == ["piano"] and cfg.data.cache == "2024"
    assert [type(value) for value in cfg.train.betas] == [float, float]
    assert cfg.data.index == "/a b/c,d (e)='f'/index.jsonl"
    assert cfg.data.augment.gain == 3 and cfg.data.extra == [1, "x"]


def test_interpolation_and_null(load):
    cfg = load("toy/base", "data.index=${data.cache}/x", "train.steps=null", "train.seed=7")
    assert (cfg.data.index, cfg.train.steps, cfg.model.seed) == ("cache/x", None, 7)


@pytest.mark.parametrize("value", ["a'b", 'a"b', "a\\", "\\'", "a=b", "", "ünï 歌", "[x", "a: b", "~/x", "'quoted'"])
def test_any_path_survives_as_a_word(load, value):
    assert load("toy/base", f"data.dataset={value}").data.dataset == value.strip("'" if value == "'quoted'" else "")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", "unknown key train.lrr: did you mean train.lr"),
        ("lr=1", "unknown key lr: did you mean train.lr"),
        ("qqq=1", "unknown key qqq: the nearest known one is "),
        ("train.lr.x=1", "unknown key train.lr.x: did you mean train.lr"),
        ("train.lr=fast", "train.lr=fast: it must be a number, like the default 0.001"),
        ("train.lr=null", "train.lr=null: it must be a number"),
        ("train.lr=", "train.lr=: it must be a number"),
        ("train.lr=true", "train.lr=true: it must be a number"),
        ("train.steps=1.5", "it must be a whole number"),
        ("train.amp=1", "it must be true or false"),
        ("model.stems=piano", "it must be a list"),
        ("model.stems=piano,drums", "it must be a list"),
        ("model.stems=[1]", "it must be a list"),
        ("data.dataset=null", "it must be a word"),
        ("train=3", "train is a group of keys"),
        ("train", "write key=value"),
        ("+train.new=1", "write key=value"),
        ("data.index=${nothing}", "nothing"),
    ],
)
def test_what_cannot_be_is_one_sentence(load, override, message):
    with pytest.raises(UserError) as caught:
        load("toy/wide", override)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_files_are_checked_like_overrides(load, configs):
    with pytest.raises(UserError, match=r"unknown key model\.widht: did you mean model\.width"):
        load("toy/typo")
    with pytest.raises(UserError, match="there is no configuration toy/wid: did you mean toy/wide"):
        load("toy/wid")
    with pytest.raises(UserError, match="there is no configuration"):
        load(str(configs / "none.yaml"))


def test_own_files_inherit_or_just_list_changes(load, tmp_path):
    own = tmp_path / "my, own.yaml"
    own.write_text("defaults: [toy/wide, _self_]\ntrain: {lr: 5e-3}\n")
    cfg = load(str(own), "train.seed=1")
    assert (cfg.model.width, cfg.train.lr, cfg.train.seed) == (16, 0.005, 1)
    assert (cfg.config_name, cfg.config_base) == ("my, own", "toy/base")

    own.write_text("defaults: [wide]\n")
    assert load(str(own), group="toy").model.width == 16

    own.write_text("train:\n  lr: 1\n")
    assert load(str(own), group="toy").train.lr == 1.0

    (tmp_path / "parent.yaml").write_text("train: {amp: true}\n")
    own.write_text("defaults: [toy/wide, parent, _self_]\n")
    assert load(str(own)).train.amp is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lr: 1}", "does not say what it changes"),
        ("defaults: [toy/wid]", "inherits from toy/wid, which is not there: did you mean toy/wide"),
        ("defaults: [toy/base]\ntrain: {lrr: 1}", "did you mean train.lr"),
        ("defaults: [toy/base]\ntrain: {amp: 3}", "it must be true or false"),
        ("defaults: [toy/base, lost]", "lost"),
        ("a: [", "own.yaml"),
        ("- a", "key: value"),
    ],
)
def test_own_files_that_cannot_be(load, tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load(str(tmp_path / "own.yaml"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_groups_of_files_can_be_chosen(load, configs, signature):
    (configs / "source").mkdir()
    (configs / "source" / "disk.yaml").write_text("block: 1\n")
    (configs / "source" / "net.yaml").write_text("block: 1\nhost: x\n")
    (configs / "toy" / "base.yaml").write_text(BASE + "defaults: [/source@source: disk, _self_]\n")
    cfg = load("toy/base")
    assert cfg.source == {"block": 1}


def test_a_folder_beside_the_base_is_a_group_to_choose_from(load, configs, signature, tmp_path):
    for name, width, steps in (("thin", 2, 100), ("thick", 32, 500)):
        (configs / "toy" / "size").mkdir(exist_ok=True)
        text = f"# @package _global_\nmodel: {{width: {width}}}\ntrain: {{steps: {steps}}}\n"
        (configs / "toy" / "size" / f"{name}.yaml").write_text(text)
    (configs / "toy" / "base.yaml").write_text(BASE + "defaults: [_self_, size: thin]\n")
    cfg, other = load("toy/base"), load("toy/base", "size=thick", "train.steps=7")
    assert (cfg.model.width, other.model.width, other.train.steps) == (2, 32, 7)
    assert signature(cfg) != signature(other)
    own = tmp_path / "own.yaml"
    own.write_text("defaults: [toy/base, _self_]\nmodel: {dropout: 0.5}\n")
    chosen = load(str(own), "size=thick")
    assert (chosen.model.width, chosen.model.dropout, chosen.train.steps) == (32, 0.5, 500)
    with pytest.raises(UserError, match="size=thik: there is no size of this name, did you mean thick"):
        load("toy/base", "size=thik")


def test_a_signature_is_what_is_changed_but_where_it_runs(load, signature):
    cfg = load("toy/wide")
    known = signature(cfg)
    assert len(known) == 8 and int(known, 16) >= 0
    assert signature(load("toy/wide", "train.lr=0.001")) == known
    assert signature(load("toy/wide", "model.width=16.0")) == known
    assert signature(load("toy/wide", "data.dataset=/elsewhere", "train.steps=7")) == known
    assert signature(load("toy/wide", "machine_only=[]")) == known
    others = [
        signature(load("toy/wide", "train.lr=1")),
        signature(load("toy/wide", "train.seed=1")),
        signature(load("toy/base", "model.width=16")),
        signature(load("toy/wide", "data.extra=1")),
    ]
    assert len({known, *others}) == 5


def test_the_resolved_file_gives_the_same_run(load, signature, configs, tmp_path):
    cfg = load("toy/wide", "train.lr=7", "data.dataset=/my songs", "train.steps=null")
    config.dump(cfg, tmp_path / "run" / "config.yaml")
    again = load(str(tmp_path / "run" / "config.yaml"))
    assert again.data.index == "/my songs/index.jsonl"
    assert again.config_name == "toy/wide" and signature(again) == signature(cfg)
    folder = config.run_folder(again, "model", config.base_of(again, configs))
    assert folder == Path("model/toy/wide") / signature(cfg)


def test_unknown_keys_cannot_be_read_or_set(load):
    cfg = load()
    with pytest.raises(AttributeError):
        _ = cfg.train.lrr
    with pytest.raises(AttributeError):
        cfg.train.lrr = 1


def test_every_configuration_of_the_repository_loads():
    names = [path.relative_to(config.CONFIGS).with_suffix("").as_posix() for path in config.CONFIGS.rglob("*.yaml")]
    signatures = {name: config.signature(config.load(name)) for name in names}
    assert len(set(signatures.values())) == len(names) > 0


def test_importing_it_does_not_import_hydra():
    code = "import runtime.config, sys; sys.exit('hydra' in sys.modules or 'omegaconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
