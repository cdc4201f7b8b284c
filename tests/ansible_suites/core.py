"""One version of ansible-core: its programs and the source of its suites.

Both lie in `.ansible-core/VERSION` of the project, which git ignores: `venv`, unless the project's own .venv holds that
version, and `targets`, out of the source package whose checksum `sdists.txt` pins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.lab import ROOT

CACHE = ROOT / ".ansible-core"
PINS = Path(__file__).with_name("sdists.txt")

# Each with the Pythons that run it, the one to prefer first.
MATRIX = {"2.16.19": ("3.11", "3.12", "3.10"), "2.19.14": ("3.11", "3.12", "3.13"), "2.21.5": ("3.13", "3.12", "3.14")}


class Missing(Exception):
    """Something that this machine lacks; the sentence says what to type."""


@dataclass(frozen=True)
class Core:
    """A version that is at hand."""

    version: str
    programs: Path  # the folder with ansible, ansible-playbook and their python
    targets: Path  # test/integration/targets


def own_version() -> str:
    """The version in the environment that runs this: the project's .venv."""
    try:
        return metadata.version("ansible-core")
    except metadata.PackageNotFoundError:
        raise Missing("this Python has no Ansible; type: make setup") from None


def is_at_hand(version: str) -> bool:
    """Whether it was fetched before."""
    return (programs_of(version) / "ansible-playbook").exists() and targets_of(version).is_dir()


def at_hand(version: str) -> Core:
    """A version that was fetched before."""
    if not is_at_hand(version):
        raise Missing(f"ansible-core {version} and its suites are not here; type: make setup, or make test-ansible-matrix")
    return Core(version, programs_of(version), targets_of(version))


def programs_of(version: str) -> Path:
    own = Path(sys.prefix) / "bin"
    return own if version == own_version() else CACHE / version / "venv" / "bin"


def targets_of(version: str) -> Path:
    return CACHE / version / "targets"


def fetch(version: str) -> Core:
    """Gets what is missing of a version; quick when nothing is."""
    if version != own_version() and not (programs_of(version) / "ansible-playbook").exists():
        make_environment(version)
    if not targets_of(version).is_dir():
        print(f"setup: the suites of ansible-core {version} into .ansible-core", flush=True)
        get_targets(version)
    return at_hand(version)


def make_environment(version: str) -> None:
    python = find_python(MATRIX[version])
    print(f"setup: ansible-core {version} into .ansible-core, with {python}", flush=True)
    place = CACHE / version / "venv"
    shutil.rmtree(place, ignore_errors=True)
    run(str(python), "-m", "venv", str(place))
    try:
        run(str(place / "bin" / "pip"), *QUIETLY, "install", f"ansible-core=={version}", *BESIDES)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


# What suites need on the controller; tests/requirements.txt names it too.
BESIDES = ("passlib==1.7.4",)
QUIETLY = ("--quiet", "--disable-pip-version-check")


def get_targets(version: str) -> None:
    """Downloads the source package and unpacks its suites, all of them or none."""
    pin = next((line for line in PINS.read_text().splitlines() if line.startswith(f"ansible-core=={version} ")), None)
    if pin is None:
        raise Missing(f"{PINS.name} has no checksum for ansible-core {version}")
    place = CACHE / version
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="unpacked.") as scratch:
        requirement = Path(scratch) / "requirement.txt"
        requirement.write_text(pin + "\n")
        pip = programs_of(version) / "pip"
        run(str(pip), *QUIETLY, "download", "--no-deps", "--no-binary", "ansible-core", "--require-hashes", "-r", str(requirement), "-d", scratch)
        (archive,) = Path(scratch).glob("ansible*core-*.tar.gz")
        # The order of options that both GNU's and BSD's tar take.
        run("tar", "-xzf", str(archive), "-C", scratch)
        (unpacked,) = Path(scratch).glob("ansible*core-*/test/integration/targets")
        unpacked.rename(targets_of(version))


def find_python(versions: tuple[str, ...]) -> Path:
    """The first of these versions in PATH or among pyenv's: pyenv's own names in PATH work only for the version it is set to."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in versions:
        candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)]
        for python in filter(None, candidates):
            works = subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True)
            if works.returncode == 0:
                return Path(python)
    raise Missing(f"this machine has no Python {' or '.join(versions)}")


def run(*words: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Missing(f"{Path(words[0]).name} {' '.join(words[1:])} failed: {done.stdout.strip()}")
