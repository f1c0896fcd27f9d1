"""The documents: links, commands, configurations and error sentences that exist, the same in both languages."""

import argparse
import ast
import contextlib
import functools
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import yaml

from run_scripts import run_apollo, run_bsrnn, run_rmvpe
from run_scripts.train_options import configuration
from runtime import console
from runtime.errors import UserError
from training import xp, xp_grids

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENGLISH = {path.name: path for path in PAGES if path.parent.name == "en"} | {"README": ROOT / "README.md"}
CHINESE = {path.name: path for path in PAGES if path.parent.name == "zh"} | {"README": ROOT / "README.zh.md"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.~/:}>-])(?:/(?:work|home|root|tmp|mnt|opt|usr|var|Users)\b|[A-Z]:\\)")
ENDS_COMMAND = {";", "&&", "||", "|", "&", ">", "2>", "<"}
CONFIGURED = {"run_spleeter.py", "eval.py"}  # take -c NAME and key=value

MODULES = {  # programs whose parser can be called here, and where their arguments begin
    (f"{name.replace('.', '/')}.py",): (name, 1)
    for name in ("downloadMusdb", "preprocess", "eval", "separator", "run_scripts.run_spleeter")
}
DEMUCS = "run_scripts/run_demucs.py"  # has a parser a command
MODULES |= {
    (DEMUCS, command): (module, 2)
    for command, module in (
        ("run", "run_scripts.demucs_run"),
        ("info", "run_scripts.demucs_info"),
        ("grid", "run_scripts.demucs_grid"),
        ("export", "run_scripts.demucs_export"),
        ("test_pretrained", "run_scripts.demucs_test"),
        ("automix", "data.automix"),
    )
}
BSRNN = "run_scripts/run_bsrnn.py"  # has a parser a mode, which is named first
BSRNN_TRAINING = ("process_data", "fast_train", "train")
MODULES |= {(BSRNN, "-m", mode): (f"run_scripts.bsrnn_{mode}", 3) for mode in ("prepare", "infer", "evaluate")}
MODULES["run_scripts/run_bsrnn_demo.py",] = ("run_scripts.run_bsrnn_demo", 1)
RMVPE = "run_scripts/run_rmvpe.py"
MODULES |= {(RMVPE, "-m", mode): (f"run_scripts.rmvpe_{mode}", 3) for mode in ("prepare", "infer", "evaluate")}
MODULES[RMVPE, "-m", "train"] = ("run_scripts.run_rmvpe", 3)
MODULES["run_scripts/run_rmvpe_demo.py",] = ("run_scripts.run_rmvpe_demo", 1)
APOLLO = "run_scripts/run_apollo.py"
MODULES |= {
    (APOLLO, "-m", mode): (f"run_scripts.apollo_{mode}", 3) for mode in ("generate", "infer", "validate", "export")
}
MODULES[APOLLO, "-m", "train"] = ("run_scripts.run_apollo", 3)
MODULES["run_scripts/automix.py",] = ("data.automix", 1)
MODULES["run_scripts/run_demucs_demo.py",] = ("run_scripts.run_demucs_demo", 1)
MODULES["-m", "runtime.doctor"] = MODULES["-m", "runtime.doctor", "audit"] = ("runtime.doctor", 2)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
each_pair = pytest.mark.parametrize("name", sorted(ENGLISH))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text("utf-8")) if name == language]


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, by GitHub's rule."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in HEADING.findall(prose(page))}


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's shell blocks, loops and their like taken apart."""
    found: list[list[str]] = []
    for line in "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in ENDS_COMMAND and word != "--":  # behind it stands the command that is to be run
                words.append(word)
                continue
            found += [words] if words else []
            words = []
    return found


def python_commands(page: Path) -> list[list[str]]:
    """What follows ``python`` in the page's commands, but for ``python -c``."""
    calls = [words[words.index("python") + 1 :] for words in commands(page) if "python" in words]
    return [call for call in calls if call[0] != "-c"]


def program(call: list[str]) -> tuple[str, ...]:
    """The part of a call that names the program: a script, or ``-m`` and a module with its subcommand."""
    if call[0] != "-m":
        return tuple(call[: {DEMUCS: 2, BSRNN: 3, RMVPE: 3, APOLLO: 3}.get(call[0], 1)])
    return ("-m", *call[1:3]) if call[1] == "pretrained" or "audit" in call[2:3] else ("-m", call[1])


@functools.cache
def help_of(name: tuple[str, ...]) -> str:
    done = subprocess.run([sys.executable, *name, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"python {' '.join(name)} --help: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def helps():
    """Ask all programs for their help at once: each is a process of its own."""
    names = {program(call) for page in PAGES for call in python_commands(page)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(help_of, (name for name in names if _exists(name))))


def _exists(name: tuple[str, ...]) -> bool:
    if name[0] != "-m":
        return (ROOT / name[0]).is_file()
    path = ROOT.joinpath(*name[1].split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def _flags(text: str) -> dict[str, list[str]]:
    """Flag → the choices that its help lists, if any."""
    found = {flag: [] for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", text)}
    for flag, choices in re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*) \{([^}]+)\}", text):
        found[flag] = re.sub(r"\s", "", choices).split(",")
    return found


@functools.cache
def keys(path: str = "spleeter/base.yaml") -> frozenset[str]:
    """Dotted keys of Spleeter's configurations, or of another file."""

    def leaves(tree: dict, prefix: str = ""):
        for name, value in tree.items():
            yield f"{prefix}{name}"
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")

    return frozenset(leaves(yaml.safe_load((ROOT / "configs" / path).read_text("utf-8"))))


class _UnderstoodError(Exception):
    """A command line was parsed without an objection."""


def parse(name: str, arguments: list[str]) -> None:
    """Gives a command line to the parser of a module, and does nothing else; `UserError` if it objects."""
    module = importlib.import_module(name)
    if hasattr(module, "parser") or hasattr(module, "parse"):
        (module.parser().parse if hasattr(module, "parser") else module.parse)(arguments)
        return
    parsed = argparse.ArgumentParser.parse_known_args

    def stop(parser: argparse.ArgumentParser, *given, **more):  # the parser is built within the module's main
        parsed(parser, *given, **more)
        raise _UnderstoodError

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop), contextlib.suppress(_UnderstoodError):
        module.main(arguments)


# --------------------------------------------------------------------------------------------------------- every page


@each_page
def test_relative_links_resolve(page):
    wrong = []
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            wrong.append(target)
    assert not wrong


@each_page
def test_no_path_of_a_machine(page):
    assert not [line for line in page.read_text("utf-8").splitlines() if MACHINE_PATH.search(line)]


@each_page
def test_commands_name_programs_and_flags_that_exist(page):
    wrong = []
    for call in python_commands(page):
        name = program(call)
        if not _exists(name):
            wrong.append(f"{name[-1]} does not exist")
            continue
        known = _flags(help_of(name))
        rest = call[len(name) :]
        for word, value in pairwise([*rest, ""]):
            flag = word.partition("=")[0]
            if re.match(r"--?[A-Za-z]", word) and flag not in known:
                wrong.append(f"{' '.join(name)} has no {flag}")
            elif known.get(word) and value not in known[word]:
                wrong.append(f"{' '.join(name)} {word} cannot be {value}")
    assert not wrong


@each_page
def test_commands_are_understood_by_their_parsers(page):
    wrong = []
    for call in python_commands(page):
        if program(call) not in MODULES:
            continue
        name, start = MODULES[program(call)]
        try:
            parse(name, call[start:])
        except UserError as error:
            wrong.append(f"{' '.join(call)}: {error}")
        finally:
            console.set_verbosity(0)
    assert not wrong


@each_page
def test_commands_name_configurations_and_keys_that_exist(page):
    wrong = []
    for call in python_commands(page):
        if Path(call[0]).name not in CONFIGURED:
            continue
        if "-c" in call and not (ROOT / "configs" / f"{call[call.index('-c') + 1]}.yaml").is_file():
            wrong.append(call[call.index("-c") + 1])
        wrong += [word for word in call if re.match(r"[a-z_.]+=", word) and word.partition("=")[0] not in keys()]
    assert not wrong


@each_page
def test_demucs_commands_name_keys_files_and_grids_that_exist(page):
    wrong = []
    for call in python_commands(page):
        if call[:1] != [DEMUCS]:
            continue
        overrides = [word for word in call[2:] if re.match(r"[a-z_0-9.]+=", word)]
        try:
            if call[1] in ("run", "info", "test_pretrained"):
                xp.compose(overrides)
            if call[1] == "grid":
                xp_grids.read(*call[2:3]) if len(call) > 2 else xp_grids.names()
        except UserError as error:
            wrong.append(f"{' '.join(call)}: {error}")
    assert not wrong


def refused(page: Path, script: str, modes: tuple[str, ...], settle: Callable[[list[str]], object]) -> list[str]:
    """The commands of a page that train with a script and that ``settle`` (of ``MODE`` and what follows) refuses."""
    wrong = []
    for call in python_commands(page):
        if call[:2] != [script, "-m"] or call[2] not in modes:
            continue
        try:
            settle(call[2:])
        except UserError as error:
            wrong.append(f"{' '.join(call)}: {error}")
    return wrong


@each_page
def test_bsrnn_commands_name_configurations_and_keys_that_exist(page):
    def settle(call):
        return configuration(run_bsrnn.parse(call[0], call[1:]), group="bsrnn")

    assert not refused(page, BSRNN, BSRNN_TRAINING, settle)


@each_page
def test_rmvpe_commands_name_configurations_and_keys_that_exist(page):
    assert not refused(page, RMVPE, ("train",), lambda call: run_rmvpe.settled(run_rmvpe.parse(call[1:])))


@each_page
def test_apollo_commands_name_configurations_and_keys_that_exist(page, monkeypatch, tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")  # a configuration with the original's keys is named by its path
    (tmp_path / "pairs" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not refused(page, APOLLO, ("train",), lambda call: run_apollo.settled(run_apollo.parse(call[1:])))


@each_page
def test_demucs_keys_in_the_text_exist(page):
    groups = r"(?:dset|test|optim|augment|ema|svd|quant|misc|slurm|demucs|hdemucs|htdemucs)"
    named = set(re.findall(rf"`({groups}\.[a-z_.0-9]+[a-z0-9])(?:=[^`]*)?`", prose(page)))
    foreign = {"test.reval", "demucs.hf.load_safetensors_model", "test.log"}  # the original's alone, and a file
    assert not named - keys("demucs/config.yaml") - foreign


@each_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {words[1] for words in commands(page) if words[0] == "make"} <= targets


@each_page
def test_keys_in_the_text_exist(page):
    groups = r"(?:model|discriminator|separation|data|train|train_dataset|augmentations|sad)"
    named = set(re.findall(rf"`({groups}\.[a-z_.]+[a-z])(?:=[^`]*)?`", prose(page)))
    ours = keys().union(*(keys(f"{family}/base.yaml") for family in ("bsrnn", "rmvpe", "apollo")))
    foreign = {"model.index", "model.pt", "train.log"}  # files
    foreign |= {"discriminator.nch"}  # a key of an original
    assert not named - ours - foreign


@each_page
def test_python_examples_are_python(page):
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom):
                module = ROOT.joinpath(*node.module.split("."))
                assert module.is_dir() or module.with_suffix(".py").is_file(), node.module


@each_page
def test_yaml_and_json_examples_parse(page):
    for body in blocks(page, "yaml"):
        assert yaml.safe_load(body)
    for body in blocks(page, "json"):
        assert json.loads(body)


# ------------------------------------------------------------------------------------------------------ both languages


def test_both_languages_have_the_same_pages():
    assert ENGLISH.keys() == CHINESE.keys()


@each_pair
def test_both_languages_have_the_same_shape(name):
    english, chinese = ENGLISH[name], CHINESE[name]
    assert [len(marks) for marks, _ in HEADING.findall(prose(english))] == [
        len(marks) for marks, _ in HEADING.findall(prose(chinese))
    ]
    for shape in (lambda page: prose(page).count("\n|"), lambda page: Counter(map(tuple, commands(page)))):
        assert shape(english) == shape(chinese)


# ----------------------------------------------------------------------------------------------------- error sentences


def _text(node: ast.AST) -> str | None:
    """A string of the program with ``…`` in the place of what varies; None for what is no string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return "".join(_text(side) or "…" for side in (node.left, node.right))
    return None


@functools.cache
def sentences_of_the_program() -> str:
    """All strings of the program, one a line, backticks as apostrophes."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if not path.relative_to(ROOT).parts[0].startswith((".venv", "tests", "benchmarks")):
            tree = ast.parse(path.read_text("utf-8"))
            found += [text for text in map(_text, ast.walk(tree)) if text and " " in text]
    return "\n".join(text.replace("`", "'").replace("\n", " ") for text in found)


def _quoted(page: Path) -> list[str]:
    """Messages in the first column of the tables of a troubleshooting page."""
    rows = [line.split(" | ")[0] for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row)]


def test_both_languages_explain_the_same_messages():
    assert _quoted(ENGLISH["troubleshooting.md"]) == _quoted(CHINESE["troubleshooting.md"])


def test_explained_messages_are_those_of_the_program():
    said = sentences_of_the_program()
    lost = []
    for message in _quoted(ENGLISH["troubleshooting.md"]):
        parts = [part.strip(" ;:.,()") for part in message.removeprefix("warning: ").split("…")]
        lost += [f"{part!r} of {message!r}" for part in parts if len(part) > 3 and part not in said]
    assert not lost
