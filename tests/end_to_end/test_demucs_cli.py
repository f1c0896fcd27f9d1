"""The commands for Demucs experiments, as a user runs them; training only on tiny synthetic songs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data.scan import build_index
from data.synthetic import write_songs
from run_scripts import demucs_grid, demucs_jobs, run_demucs
from runtime.errors import UserError
from tests.end_to_end.inside import inside
from training import xp, xp_grids

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "run_scripts" / "run_demucs.py"
TINY = [
    *("demucs.channels=4", "demucs.depth=2", "demucs.dconv_depth=1", "dset.segment=1.5", "dset.shift=0.5"),
    *("batch_size=2", "max_batches=2", "augment.repitch.proba=0", "augment.remix.group_size=1", "misc.num_workers=0"),
    *("epochs=1", "test.sdr=false"),
]


def command(place: Path, *arguments, status: int = 0, **environment) -> subprocess.CompletedProcess:
    """Runs ``run_demucs.py arguments…`` in a folder and in this process, and checks its exit status."""
    return inside(run_demucs.main, place, *arguments, status=status, **environment)


def process(place: Path, *arguments, status: int = 0, **environment) -> subprocess.CompletedProcess:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def first_line(text: str) -> str:
    return text.splitlines()[0]


# ---------------------------------------------------------------------------------------------- help, info, complaints


@pytest.mark.parametrize("name", ["", "run", "info", "grid", "export", "test_pretrained"])
def test_help_needs_neither_paddle_nor_hydra(name, tmp_path):
    for module in ("paddle", "hydra", "omegaconf"):
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('{module} was imported')")
    said = process(tmp_path, *name.split(), "--help", PYTHONPATH=str(tmp_path)).stdout
    assert said.startswith("usage: run_demucs.py") and "examples:" in said


def test_info_begins_with_the_signature(tmp_path):
    assert command(tmp_path, "info").stdout.startswith("signature: 97d170e1\nchanges: none\n")
    assert (
        first_line(command(tmp_path, "info", "-f", "81de367c", "hdemucs.channels=32").stdout) == "signature: 2db45dc4"
    )
    said = command(
        tmp_path, "info", "continue_from=81de367c", "-f", "81de367c", "dset=auto_mus", "variant=finetune", "-C"
    )
    lines = said.stdout.splitlines()
    assert lines[0] == "signature: 67ddbd17"
    assert {'  continue_from="81de367c"', "  variant=finetune", "state: new, 0 of 4 epochs"} <= set(lines)
    assert lines[-1] == "best checkpoint: none"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "status", "sentence"),
    [
        ("", 2, None),
        ("inf", 2, "did you mean info?"),
        ("info optim.lrr=1", 1, "did you mean optim.lr?"),
        ("info dset=auto_muss", 1, "did you mean auto_mus?"),
        ("info -f 955717e", 1, "did you mean 955717e8?"),
        ("info seed=x", 1, "seed=x: it must be a whole number"),
        ("info -l", 1, "has no log yet"),
        ("info -j 17", 1, "no experiment of job 17"),
        ("info --cancel", 1, "no batch job"),
        ("info --metric", 2, "did you mean --metrics?"),
        ("run batch_size=3 -npn 2", 1, "batch_size=3 cannot be shared out to 2 processes"),
        ("run weights=[1,1]", 1, "there are 4 sources"),
        ("run dset.segment=1", 1, "dset.segment=1"),
        ("run --dataset nowhere", 1, "--dataset nowhere: there is no such folder"),
        ("run --wav nowhere", 1, "--wav nowhere"),
        ("run --node-rank 1", 2, "--node-rank is for several nodes"),
        ("grid mmx --dry_run", 1, "did you mean mmi?"),
        ("grid sdx23 nothing --dry_run", 1, "no experiment of the grid sdx23 fits nothing"),
        ("grid sdx23 7 --dry_run", 1, "there are 2 experiments"),
        ("grid sdx23 --dry_run --clear", 2, "--dry_run changes nothing"),
        ("grid sdx23 -i 0", 2, "no positive number of minutes"),
        ("grid sdx23 -l 0", 1, "has no log yet"),
        ("export 955717e8", 1, "train 955717e8 first"),
        ("export 955717e8 --bag ../mine", 2, "is no name of a file"),
        ("export", 2, "SIG"),
        ("test_pretrained", 2, "-n/--name"),
        ("test_pretrained -n htdemuc --offline --device cpu", 1, "did you mean htdemucs?"),
    ],
)
def test_complaints_are_sentences(line, status, sentence, tmp_path):
    said = command(tmp_path, *line.split(), status=status).stderr
    assert "Traceback" not in said
    if sentence:
        assert said.startswith("error: ") and sentence in said and said.count("\n") == 1


def test_a_complaint_of_the_command(tmp_path):
    assert (
        process(tmp_path, "info", "seed=x", status=1).stderr
        == "error: seed=x: it must be a whole number, like the default 42\n"
    )


# --------------------------------------------------------------------------------------------------------------- grids


def test_a_grid_is_a_table(tmp_path):
    assert "mdx, mdx_extra, mdx_refine, mmi, mmi_ft, repro, repro_ft, sdx23" in command(tmp_path, "grid").stdout
    said = command(tmp_path, "grid", "mdx_refine", "--dry_run").stdout.splitlines()
    assert said[1].startswith("common: ") and "dset=auto_mus" in said[1] and "optim.lr" not in said[1]
    rows = [line.split() for line in said[4:]]
    assert len(rows) == 12 and [row[2] for row in rows[:4:3]] == ["0d19c1c6", "7ecf8ec1"]
    assert {row[1] for row in rows} == {"new"}
    assert list(tmp_path.iterdir()) == []


def test_patterns_choose_and_init_makes_known(tmp_path):
    def signatures(*patterns):
        said = command(tmp_path, "grid", "mdx", *patterns, "--dry_run").stdout.splitlines()
        return [line.split()[2] for line in said[4:]]

    assert signatures("model=hdemucs", "!diffq") == ["81de367c", "80a68df8"]
    assert signatures("!hdemucs", "!weights", "2") == ["efa4bad0"]
    assert signatures("weights=[1.0, 1.0", "diffq=0.0003") == ["d60a78c5"]
    command(tmp_path, "info", "-f", "efa4bad0", status=1)
    said = command(tmp_path, "grid", "mdx", "efa4bad0", "--dry_run", "--init").stdout
    assert "ready" in said
    assert first_line(command(tmp_path, "info", "-f", "efa4bad0").stdout) == "signature: efa4bad0"
    assert command(tmp_path, "grid", "mdx", "efa4bad0", "-f", "0").stdout == "outputs/xps/efa4bad0\n"
    assert [path.name for path in (tmp_path / "outputs" / "xps").iterdir()] == ["efa4bad0"]


SLURM = {
    "sbatch": 'echo "$@" > sbatch.txt; for script; do :; done; cp "$script" job.sh; echo "Submitted batch job 4711"',
    "sacct": "printf 'JobID|State|NodeList\\n4711|RUNNING|node1\\n'",
    "scancel": 'echo "$@" > scancel.txt',
    "srun": "true",
}


def test_a_grid_on_slurm(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, work in SLURM.items():
        (tools / name).write_text(f"#!/bin/sh\n{work}\n")
        (tools / name).chmod(0o755)
    slurm = {"PATH": f"{tools}:{os.environ['PATH']}"}
    grid = ["grid", "repro_ft", "a70ec075", "--no_monitoring"]
    said = command(tmp_path, *grid, **slurm).stdout
    assert "9a6b4851 waits for a70ec075" in said and not (tmp_path / "job.sh").exists()
    parent = tmp_path / "outputs" / "xps" / "a70ec075"
    parent.mkdir()
    (parent / "history.jsonl").write_text('{"valid": {"loss": 0.5, "best": 0.4}}\n' * 600)
    options = ["-g", "16", "-p", "music", "--constraint", "v100", "--cache", "my cache", "slurm.setup=[module load x]"]
    said = command(tmp_path, *grid, *options, **slurm).stdout
    assert "job 4711: 9a6b4851" in said and "running" in said and "waits" not in said
    script = (tmp_path / "job.sh").read_text()
    wanted = ["--nodes=2", "--gres=gpu:8", "--partition=music", "--constraint=v100", "--time=300", "\nmodule load x\n"]
    assert [text for text in wanted if text not in script] == []
    assert "job: 4711, RUNNING" in command(tmp_path, "info", "-j", "4711", **slurm).stdout
    (tmp_path / "job.sh").unlink()
    command(tmp_path, *grid, **slurm)
    assert not (tmp_path / "job.sh").exists()  # it runs
    said = command(tmp_path, "grid", "repro_ft", "9a6b4851", "-C", **slurm).stdout
    assert "ended job 4711 of 9a6b4851" in said and "4711" in (tmp_path / "scancel.txt").read_text()


# ------------------------------------------------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A folder with songs and a tiny experiment that was trained for an epoch, and its signature."""
    place = tmp_path_factory.mktemp("demucs")
    write_songs(place / "songs", songs=6, seconds=4.0, seed=0, splits={"test": 1})
    build_index(place / "songs", jobs=1)
    process(place, "run", "--device", "cpu", "--dataset", "songs", *TINY)
    return place, first_line(command(place, "info", *TINY).stdout).removeprefix("signature: ")


def test_a_trained_experiment_is_known_by_its_signature(trained):
    place, signature = trained
    folder = place / "outputs" / "xps" / signature
    noted = [override for override in TINY if not override.startswith("misc.")]  # what makes the signature
    assert json.loads((folder / ".argv.json").read_text()) == noted
    said = command(place, "info", "-f", signature, "-m", "-C").stdout
    assert "state: done, 1 of 1 epochs" in said and f"best checkpoint: outputs/xps/{signature}/best/step-" in said
    assert "valid: loss" in said and "test: nsdr" in said and '"epoch": 1' in said
    assert "finished" in command(place, "info", "-f", signature, "-l").stdout


def test_songs_are_measured_before_processes_start(trained, tmp_path, monkeypatch):
    from runtime import launch

    place, _ = trained
    monkeypatch.chdir(tmp_path)
    cached_before = []
    monkeypatch.setattr(
        launch, "launch", lambda *_: cached_before.append(len(list(Path("cached").rglob("*.cache")))) or 0
    )
    line = ["run", "--device", "cpu", "-npn", "2", "--cache", "cached", *TINY]
    assert run_demucs.main([*line, "--dataset", str(place / "songs")]) == 0
    assert cached_before == [6]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing"):
        run_demucs.main([*line, "--dataset", "nothing"])
    assert cached_before == [6]  # and no process started


def test_the_same_command_goes_on(trained):
    place, signature = trained
    said = command(place, "run", "-d", "--device", "cpu", "--dataset", "songs", "-f", signature).stdout
    assert f"experiment {signature}" in said and "resumed" in said


def test_clear_sets_aside(trained):
    place, _ = trained
    folder = place / "outputs" / "xps" / first_line(command(place, "info", *TINY, "seed=7").stdout)[11:]
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    said = command(place, "run", "--clear", "--device", "cpu", "--dataset", "songs", *TINY, "seed=7", "misc.show=true")
    assert "set aside" in said.stdout and not (folder / "mine.txt").exists()
    (kept,) = folder.parent.glob(f"{folder.name}-until-*/mine.txt")
    assert kept.read_text() == "kept"


def test_a_grid_on_this_machine(trained, monkeypatch, capsys):
    place, signature = trained
    monkeypatch.chdir(place)
    tiny = xp.load(signature)
    waiting = xp.compose([*TINY, "continue_from=97d170e1"])
    grid = xp_grids.Grid("tiny", "Two experiments.", xp_grids.Needs(), [tiny, waiting])
    monkeypatch.setattr(xp_grids, "read", lambda name, extra: grid)
    monkeypatch.setattr(xp, "known_argv", lambda name, *_: {"97d170e1": [], signature: TINY}[name])
    options = ["tiny", "--local", "--no_monitoring", "--device", "cpu", "--dataset", "songs"]
    assert demucs_grid.main(options) == 0
    said = capsys.readouterr().out
    assert "job " not in said and f"{waiting.signature} waits for 97d170e1" in said  # one is done, the other waits
    assert demucs_grid.main([*options, "-D", "0"]) == 0
    said = capsys.readouterr().out
    assert "run_demucs.py run -f " + signature in said and "status 0" in said
    logs = (tiny.folder / "jobs").glob("*_0_log.out")
    assert any("resumed from" in path.read_text() for path in logs)


def test_clearing_a_grid_trains_again_what_was_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = xp.compose(["epochs=1"])
    grid = xp_grids.Grid("tiny", "One experiment.", xp_grids.Needs(), [done])
    monkeypatch.setattr(xp_grids, "read", lambda name, extra: grid)
    begun = []
    monkeypatch.setattr(demucs_jobs, "run_here", lambda arguments: begun.append(arguments) or 0)
    done.folder.mkdir(parents=True)
    (done.folder / "history.jsonl").write_text("{}\n")
    assert demucs_grid.main(["tiny", "--local", "--no_monitoring"]) == 0 and not begun
    assert demucs_grid.main(["tiny", "--local", "--no_monitoring", "--clear"]) == 0 and len(begun) == 1
    assert done.signature in begun[0] and not (done.folder / "history.jsonl").exists()


def test_export_and_score(trained):
    place, signature = trained
    said = command(place, "export", signature, "-s", "--bag", "mine").stdout
    (package,) = (place / "release_models").glob("*.safetensors")
    assert package.name.startswith(f"{signature}-") and f"wrote release_models/{package.name}" in said
    command(place, "export", signature)
    assert [path.name for path in (place / "release_models").glob("*.safetensors")] == [f"{signature}.safetensors"]
    said = command(place, "export", signature, "-o", "my models", "--bag", "my bag").stdout
    assert "separator.py --repo 'my models' -n 'my bag' SONG" in said
    foreign = place / "release_models" / f"{signature}-01234567.th"
    foreign.write_text("from elsewhere")
    assert f"{foreign.name} is a package" in command(place, "export", signature, status=1).stderr
    assert foreign.read_text() == "from elsewhere"
    foreign.unlink()
    scored = ["test_pretrained", "--repo", "release_models", "--dataset", "songs", "--device", "cpu", "test.sdr=false"]
    said = command(place, *scored, "-n", "mine", "--json", "scores.json").stdout
    assert "mine: 1 networks, 1 songs, shifts 1" in said and "nsdr" in said
    scores = json.loads((place / "scores.json").read_text())["scores"]
    history = (place / "outputs" / "xps" / signature / "history.jsonl").read_text().splitlines()
    assert scores["nsdr"] == pytest.approx(json.loads(history[-1])["test"]["nsdr"], abs=0.05)
    done = command(place, *scored, "-n", signature, "dset.sources=[drums,other]", status=1)
    assert "add dset.sources=[drums,bass,other,vocals]" in done.stderr


def test_static_export(trained):
    place, signature = trained
    said = command(place, "export", signature, "--static", "-o", "programs").stdout
    assert "of its largest output" in said
    folder = place / "programs" / f"{signature}-static"
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["deviation"] < 1e-4 and facts["output"] == [1, 4, *facts["input"][1:]]
    assert (folder / "network.json").is_file() and (folder / "network.pdiparams").is_file()
