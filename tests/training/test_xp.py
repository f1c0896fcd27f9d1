"""Demucs experiments: the published signatures, and what is refused."""

import json
import re
import shutil

import pytest

from runtime.errors import UserError
from tests.conftest import SHARED
from training import xp, xp_grids

REPRO = {"9a6b4851": "a70ec075", "1ef250f1": "c9cefc23", "fa0cb7f9": "f3f30555", "902315c2": "b3293021"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outputs/ is looked for here


def signature(*overrides: str) -> str:
    return xp.compose(overrides).signature


# ---------------------------------------------------------------------------------------------------------- signatures


def test_nothing_changed_has_a_signature_too():
    experiment = xp.compose()
    assert (experiment.signature, experiment.argv, experiment.delta) == ("97d170e1", [], [])
    assert experiment.folder.as_posix() == "outputs/xps/97d170e1"


@pytest.mark.parametrize("name", xp.published())
def test_published_experiments_have_their_signatures(name):
    assert xp.load(name).signature == name


def test_the_published_command_lines_as_they_were_stored():
    path = SHARED / "spec" / "demucs_experiments.json"
    if not path.is_file():
        pytest.skip("needs the folder shared/spec beside the repository")
    stored = json.loads(path.read_text())
    assert len(stored) == 23
    for name, argv in stored.items():
        experiment = xp.compose(argv)
        assert experiment.signature == name
        assert len(experiment.argv) == len({text.partition("=")[0] for text in argv})
        assert xp.published()[name] == experiment.argv


def test_changes_of_a_published_experiment():
    assert xp.load("81de367c", ["hdemucs.channels=32"]).signature == "2db45dc4"
    tuned = xp.load("81de367c", ["continue_from=81de367c", "dset=auto_mus", "variant=finetune"])
    assert tuned.signature == "67ddbd17"
    assert (tuned.cfg.dset.segment, tuned.cfg.epochs, tuned.cfg.model) == (28, 4, "hdemucs")


@pytest.mark.parametrize(
    ("grid", "count", "some"),
    [
        ("mdx", 12, "9357e12e e312f349 81de367c 80a68df8"),
        ("mdx_refine", 12, "0d19c1c6 7ecf8ec1 c511e2ab 7d865c68 6b9c2ca1 b72baf4e 42e558d4 305bc58f"),
        ("mdx_extra", 16, "3d21764b c24d4b58 b141dad5 2cfe4564"),
        ("mmi", 20, "955717e8 75fc33f5 2899e11a"),
        ("mmi_ft", 18, "955717e8 2899e11a f7e0c4bc d12395a8 92cfc3b6 04573f0d"),
        ("repro", 12, " ".join(REPRO.values())),
        ("repro_ft", 12, " ".join(REPRO)),
        ("sdx23", 2, "17a36a86 053b5e8c"),
    ],
)
def test_grids(grid, count, some):
    found = xp_grids.read(grid)
    signatures = [experiment.signature for experiment in found.experiments]
    assert len(signatures) == len(set(signatures)) == count
    assert set(some.split()) <= set(signatures)
    assert found.title and found.needs.cards in (4, 8)


def test_every_grid_is_tested_here():
    assert xp_grids.names() == ["mdx", "mdx_extra", "mdx_refine", "mmi", "mmi_ft", "repro", "repro_ft", "sdx23"]


def test_fine_tuning_says_what_it_continues_from():
    assert {name: xp.load(name).cfg.continue_from for name in REPRO} == REPRO
    tuned = {source: xp.load(name).cfg for source, name in enumerate(["f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"])}
    for source, cfg in tuned.items():
        assert cfg.continue_from == "955717e8"
        assert [place for place, weight in enumerate(cfg.weights) if weight] == [source]


@pytest.mark.parametrize(
    "same",
    [
        ["misc.num_workers=3"],
        ["flag=mine"],
        ["dset.backend=sox"],
        ["slurm.time=5"],
        ["dora.dir=elsewhere"],
        ["seed=42"],
        ["seed=7", "seed=42"],
        ["optim.lr=0.0003"],
        ["svd.penalty=0.0"],
    ],
)
def test_what_makes_no_other_experiment(same):
    assert signature(*same) == signature()


def test_what_makes_another_experiment():
    assert len({signature(), signature("seed=43"), signature("dset=musdb44"), signature("dummy=1")}) == 4
    assert signature("seed=43", "epochs=3") == signature("epochs=3", "seed=43")
    assert signature('continue_from="955717e8"') == signature("continue_from=955717e8") != signature("continue_from=9")
    assert xp.compose(["continue_from=955717e8"]).cfg.continue_from == "955717e8"


def test_places_of_this_machine_make_no_other_experiment():
    experiment = xp.compose(["dset=auto_mus"])
    moved = xp.elsewhere(experiment, {"dset.musdb": "/data/my songs", "dset.wav": None})
    assert moved.signature == experiment.signature and moved.folder == experiment.folder
    assert (moved.cfg.dset.musdb, moved.cfg.dset.wav) == ("/data/my songs", "dataset/automix")
    assert experiment.cfg.dset.musdb == "dataset"


# ----------------------------------------------------------------------------------------------- values and complaints


def test_values_arrive_as_they_are_written():
    cfg = xp.compose(
        [
            "weights=[1,0,0.5,1]",
            "dset.wav=/a folder/b,c",
            "dset.sources=[drums,other]",
            "max_batches=5",
            "model=htdemucs",
        ]
    ).cfg
    assert list(cfg.weights) == [1, 0, 0.5, 1] and list(cfg.dset.sources) == ["drums", "other"]
    assert (cfg.dset.wav, cfg.max_batches, cfg.model, cfg.htdemucs.t_lr) == ("/a folder/b,c", 5, "htdemucs", None)
    assert cfg.optim.lr == 3e-4 and len(cfg.htdemucs) == 58 and len(cfg.hdemucs) == 31 and len(cfg.demucs) == 21


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lrr=1", "did you mean optim.lr?"),
        ("lr=1", "did you mean optim.lr?"),
        ("hdemucs.chanels=32", "did you mean hdemucs.channels?"),
        ("optim=adam", "optim is a group of keys"),
        ("dset=auto_muss", "did you mean auto_mus?"),
        ("variant=mine", "variant=mine: there is no such file"),
        ("model=hdemuc", "it must be demucs or hdemucs or torch_hdemucs or htdemucs"),
        ("test.metric=null", "test.metric=null: it must be loss or nsdr"),
        ("batch_size=8.5", "a whole number, like the default 64"),
        ("batch_size=null", "a whole number, like the default 64"),
        ("max_batches=many", "max_batches=many: it must be a whole number"),
        ("optim.lr=fast", "it must be a number"),
        ("optim.lr=nan", "it must be a number"),
        ("dset.normalize=1", "true or false"),
        ("weights=1", "a list of numbers"),
        ("weights=[a]", "a list of numbers"),
        ("dset.sources=[1]", "a list of words"),
        ("seed=1,2", "no value"),
        ("epochs=[1", "no value"),
        ("epochs", "write key=value"),
        ("+new=1", "write key=value"),
    ],
)
def test_what_is_refused(override, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        xp.compose([override])


def test_a_value_is_written_so_that_it_comes_back():
    values = {"dset.wav": "a, 'b' \"c\" [d]", "weights": [1, 0.5], "continue_from": "955717e8", "optim.lr": 1e-5}
    cfg = xp.compose([xp.override(key, value) for key, value in values.items()]).cfg
    assert (cfg.dset.wav, list(cfg.weights)) == (values["dset.wav"], values["weights"])
    assert (cfg.continue_from, cfg.optim.lr) == ("955717e8", 1e-5)


# -------------------------------------------------------------------------------------------------------- what is kept


def test_an_experiment_that_ran_is_known_by_its_signature(tmp_path):
    argv = ["model=hdemucs", "seed=5"]
    experiment = xp.compose([*argv, f"dora.dir={tmp_path / 'runs'}"])
    assert experiment.folder == tmp_path / "runs" / "xps" / signature(*argv)
    experiment.folder.mkdir(parents=True)
    (experiment.folder / ".argv.json").write_text(json.dumps(argv))
    name = experiment.signature
    assert xp.load(name, [f"dora.dir={tmp_path / 'runs'}"]).signature == name
    with pytest.raises(UserError, match=f"no experiment {name}"):
        xp.load(name)
    with pytest.raises(UserError, match="did you mean 955717e8"):
        xp.load("955717e")
    (experiment.folder / ".argv.json").write_text("{}")
    with pytest.raises(UserError, match="not a list of overrides"):
        xp.load(name, [f"dora.dir={tmp_path / 'runs'}"])


def test_edited_files_are_noticed(tmp_path):
    configs = tmp_path / "configs"
    shutil.copytree(xp.CONFIGS, configs)
    assert xp.load("955717e8", configs=configs).signature == "955717e8"
    text = (configs / "config.yaml").read_text()
    edited = tmp_path / "edited"
    shutil.copytree(configs, edited)
    (edited / "config.yaml").write_text(text.replace("t_dropout: 0.0 ", "t_dropout: 0.02 "))
    with pytest.raises(UserError, match="edited since"):
        xp.load("955717e8", configs=edited)
    (configs / "config.yaml").write_text(text.replace("musdb: dataset ", "musdb: /my/songs "))
    xp._base.cache_clear()
    moved = xp.load("955717e8", configs=configs)
    assert (moved.signature, moved.cfg.dset.musdb) == ("955717e8", "/my/songs")


def test_a_variant_of_ones_own(tmp_path):
    configs = tmp_path / "configs"
    shutil.copytree(xp.CONFIGS, configs)
    (configs / "variant" / "mine.yaml").write_text("# @package _global_\nepochs: 3\nhdemucs:\n  channels: 16\n")
    experiment = xp.compose(["variant=mine", "epochs=4"], configs)
    assert experiment.delta == [["variant", "mine"], ["epochs", 4]]
    assert (experiment.cfg.epochs, experiment.cfg.hdemucs.channels) == (4, 16)
