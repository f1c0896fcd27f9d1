"""Batch jobs: what is asked for, what Slurm would get, and jobs that run, fail and are requeued on this machine."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from run_scripts.cluster import grid, submit
from runtime.errors import UserError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "run_scripts" / "cluster" / "submit.py"


@pytest.fixture
def place(tmp_path):
    """A folder with ``task.py``, which does ``work``; the tests write it."""

    def write(work: str) -> Path:
        (tmp_path / "task.py").write_text("import os, signal, sys, time\n" + textwrap.dedent(work))
        return tmp_path

    return write


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    words = [sys.executable, str(SCRIPT), "--folder", str(folder / "jobs"), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=folder, env=os.environ | environment, **pipes)


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def log_of(folder: Path, task: int = 0) -> str:
    (path,) = (folder / "jobs").glob(f"*_{task}_log.out")
    return path.read_text()


# ------------------------------------------------------------------------------------------------------- command lines


def test_help_needs_neither_paddle_nor_submitit(tmp_path):
    for name in ("paddle", "submitit"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    status, out, err = ended(start(tmp_path, "--help", PYTHONPATH=str(tmp_path)))
    assert (status, err) == (0, "") and "--grid NAME=A,B" in out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--cards 4", "there is no command: write it behind --"),
        ("--card 4 -- python eval.py", "unknown option --card: did you mean --cards?"),
        ("--time soon -- python eval.py", "soon is no time"),
        ("--time 0 -- python eval.py", "0 is no time at all"),
        ("--memory much -- python eval.py", "much is no size"),
        ("--nodes 0 -- python eval.py", "0 is not a whole number from 1 on"),
        ("--grid lr -- python eval.py", "--grid lr: write name=value,value"),
        ("--grid lr=1, -- python eval.py", "--grid lr=1,: write name=value,value"),
        ("--grid lr=1 --grid lr=2 -- python eval.py", "--grid lr: given twice"),
        ("--dry-run -- python evil.py", "evil.py: there is no such file"),
        ("--dry-run -- no-such-program", "no-such-program: there is no such program"),
        ("--name a/b -- python eval.py", "--name a/b: a name without a slash is needed"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(line, sentence, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        submit.main(line.split())
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_without_slurm_the_remedy_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="no sbatch here: submit on a machine of the cluster, or run with --local"):
        submit.main(["--", "python", "eval.py"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90:30", 91), ("12:00:00", 720), ("2-00", 2880), ("1-12:30", 2190), ("0-0:0:1", 1)],
)
def test_times_as_slurm_writes_them(text, expected):
    assert grid.minutes(text) == expected


def test_sizes_as_slurm_writes_them():
    assert [grid.gigabytes(text) for text in ("64G", "512M", "1.5t", "1024", "2GB")] == [64, 0.5, 1536, 1, 2]
    with pytest.raises(argparse.ArgumentTypeError):
        grid.gigabytes("0G")


def test_a_grid_fills_in_or_appends():
    found = grid.commands(["x", "{song}", "-o", "{song}.out"], ["song=a,b", "lr=1e-4,3e-4"])
    assert found[1] == ("x", "a", "-o", "a.out", "lr=3e-4") and len(found) == 4
    assert grid.commands(["x"], ["filters=[1,2],[3]"]) == [("x", "filters=[1,2]"), ("x", "filters=[3]")]
    assert grid.commands(["x"], []) == [("x",)]


def test_a_dry_run_shows_what_slurm_would_get(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    line = (
        "--nodes 2 --cards 4 --gres sdaa --memory 64G --time 1-00 --partition music --cpus 8 --grace 120 --at-once 1 "
        "--sbatch account=x --sbatch exclusive --grid train.seed=0,1,2 --dry-run -- python eval.py -npn 4"
    )
    assert submit.main(line.split()) == 0
    said = capsys.readouterr().out
    assert f"command 2: {sys.executable} eval.py -npn 4 train.seed=2" in said
    wanted = (
        "nodes=2 ntasks-per-node=1 gres=sdaa:4 mem=65536M time=1440 partition=music cpus-per-task=8 "
        "signal=USR2@120 array=0-2%1 account=x exclusive requeue job-name=eval open-mode=append"
    )
    for option in wanted.split():
        assert f"#SBATCH --{option}\n" in said
    assert f"export PYTHONPATH={ROOT}" in said


# ---------------------------------------------------------------------------------------------------- on this machine


def test_a_job_ends_with_the_status_of_its_command(place):
    folder = place("print(sys.argv[1:], os.getcwd()); sys.exit(int(sys.argv[1][-1]))")
    status, out, err = ended(start(folder, "--local", "--grid", "n=0,3", "--at-once", "2", "--", "python", "task.py"))
    assert (status, err) == (3, "")
    assert out.count(": status 0\n") == out.count(": status 3\n") == 1
    logs = "".join(path.read_text() for path in (folder / "jobs").glob("*_log.out"))
    assert f"['n=0'] {folder}" in logs and f"['n=3'] {folder}" in logs


def test_a_command_that_asks_for_it_is_started_again(place):
    folder = place("""
    with open("runs", "a") as handle:
        handle.write("x")
    sys.exit(75 if os.path.getsize("runs") < 3 else 0)
    """)
    assert ended(start(folder, "--local", "--", "python", "task.py"))[0] == 0
    assert (folder / "runs").read_text() == "xxx" and log_of(folder).count("Requeued job") == 2


SAVES = """
def save(number, frame):
    print("saved after", signal.Signals(number).name, flush=True)
    sys.exit(75)

if os.path.exists("resume"):
    sys.exit(print("resumed") or 0)
signal.signal(signal.SIGTERM, save)
open("resume", "w").close()
time.sleep(60)
"""


def test_a_preempted_job_saves_and_goes_on(place):
    folder = place(SAVES)
    process = start(folder, "--local", "--", "python", "task.py")
    job = int(process.stdout.readline().split()[1].rstrip(":"))
    deadline = time.monotonic() + 30
    while not (folder / "resume").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(job, signal.SIGTERM)  # submitit's controller hands it to the tasks
    assert ended(process)[0] == 0
    log = log_of(folder)
    assert log.index("saved after SIGTERM") < log.index("Requeued job") < log.index("resumed")


def test_nodes_are_told_where_to_meet(place):
    folder = place("print(sys.argv[1:])")
    assert ended(start(folder, "--local", "--nodes", "2", "--", "python", "task.py", "-npn", "4"))[0] == 0
    for task in (0, 1):
        said = log_of(folder, task)
        assert "['-npn', '4', '--nnodes', '2', '--master', 'localhost:2" in said and f"'--node-rank', '{task}']" in said


# ------------------------------------------------------------------------------------------------ an imitation of Slurm

SBATCH = """\
#!{python}
# Runs the script in the background, again whenever it was requeued, then notes its status.
import os, subprocess, sys
print("Submitted batch job 4711", flush=True)
if os.fork() == 0:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    again = True
    while again:
        status = subprocess.run(["bash", sys.argv[1]], env=os.environ | {{"SLURM_JOB_ID": "4711"}}).returncode
        again = os.path.exists("requeued")
        if again:
            os.remove("requeued")
    with open("status.new", "w") as handle:
        handle.write(str(status))
    os.rename("status.new", "status")
"""

SRUN = """\
#!{python}
# Starts one task on each of two nodes.
import os, subprocess, sys
words = sys.argv[1:]
output = words[words.index("--output") + 1]
command = words[words.index("--output") + 2 :]
tasks = []
for node in ("0", "1"):
    step = {{"SLURM_PROCID": node, "SLURM_NODEID": node, "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}}
    step |= {{"SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "card[3-4]"}}
    log = open(output.replace("%j", "4711").replace("%t", node), "a")
    tasks.append(subprocess.Popen(command, env=os.environ | step, stdout=log, stderr=log))
sys.exit(max(task.wait() for task in tasks) & 255)
"""

SCONTROL = """\
#!/bin/sh
[ "$1 $2" = "requeue 4711" ] && touch requeued
"""


def test_slurm_gets_a_job_that_requeues_itself_on_two_nodes(place):
    folder = place("""
    rank = int(sys.argv[sys.argv.index("--node-rank") + 1])
    with open(f"runs-{rank}", "a") as handle:
        handle.write("x")
    print(sys.argv[1:])
    sys.exit(75 if os.path.getsize(f"runs-{rank}") < 2 else 5 * rank)
    """)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL}.items():
        (folder / name).write_text(text.format(python=sys.executable) if "{python}" in text else text)
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    status, out, err = ended(start(folder, "--nodes", "2", "--", "python", "task.py", PATH=path))
    assert (status, err) == (0, "") and out.startswith("job 4711: ") and "logs: " in out
    deadline = time.monotonic() + 60
    while not (folder / "status").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (folder / "status").read_text() == "5"  # that of the second node
    assert [(folder / f"runs-{rank}").read_text() for rank in (0, 1)] == ["xx", "xx"]
    assert "'--nnodes', '2', '--master', 'card3:24711', '--node-rank', '1'" in log_of(folder, 1)


# ------------------------------------------------------------------------------------------------ without a scheduler

SSH = """\
#!/bin/bash
# ssh -o BatchMode=yes NODE COMMAND, on this machine
exec bash -c "$4"
"""


def test_the_template_for_ssh_starts_all_nodes_and_ends_with_their_status(place):
    folder = place("print(sys.argv[1:]); sys.exit(75)")
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "hosts").write_text("# two machines\nnode1\n\nnode2\n")
    settings = {"HOSTS": "hosts", "COMMAND": "task.py -npn 4", "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    template = SCRIPT.parent / "templates" / "over_ssh.sh"
    done = subprocess.run(
        [template], cwd=folder, env=os.environ | settings, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 75
    for rank in (0, 1):
        said = (folder / "model" / "jobs" / "over_ssh" / f"{rank}.log").read_text()
        assert said == f"['-npn', '4', '--nnodes', '2', '--master', 'node1:29500', '--node-rank', '{rank}']\n"


def test_the_template_for_containers_says_what_is_missing(tmp_path):
    template = SCRIPT.parent / "templates" / "container.sh"
    environment = {name: value for name, value in os.environ.items() if name != "IMAGE"}
    done = subprocess.run([template, "true"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "name the image that the vendor gave you" in done.stderr
