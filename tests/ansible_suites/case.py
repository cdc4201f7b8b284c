"""One command line of a suite, and many of them side by side."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from .ground import Ground

# Stands for the case's own folder in its words and variables.
DESK = "<desk>"
# For one case, with others beside it on a small machine.
PATIENCE = 600


def succeeds(status: int, output: str) -> str | None:
    """The verdict that most cases go by; none is good."""
    return None if status == 0 else f"ended with {status}"


@dataclass(frozen=True)
class Case:
    """What to run, where, and how to tell that it went well."""

    name: str
    target: str  # the folder of the suite to run in
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    copies: tuple[str, ...] = ()  # other targets that the run writes to
    files: dict[str, str] = field(default_factory=dict)  # to write into the case's own folder
    edits: dict[str, str] = field(default_factory=dict)  # to replace in the copy of the target
    verdict: Callable[[int, str], str | None] = succeeds
    alone: bool = False  # whether a loaded machine would spoil it
    lacks: str = ""  # why it cannot run here


@dataclass(frozen=True)
class Outcome:
    """How a case ended."""

    case: Case
    wrong: str | None
    seconds: float
    output: str


class Desk:
    """A case's own folders: one for Ansible, one for what it writes, and the suites."""

    def __init__(self, ground: Ground, case: Case) -> None:
        self.folder = ground.lab.folder / re.sub(r"\W+", "-", case.name)
        self.folder.mkdir()
        (self.folder / "tmp").mkdir()
        self.targets = self.folder / "targets"
        self.targets.mkdir()
        for target in ground.core.targets.iterdir():
            own = target.name == case.target or target.name in case.copies
            place = self.targets / target.name
            shutil.copytree(target, place, symlinks=True) if own else place.symlink_to(target)
        for name, text in case.files.items():
            (self.folder / name).write_text(self.fill(text))
        for file in (self.targets / case.target).rglob("*") if case.edits else ():
            if file.is_file():
                edit(file, case.edits)

    def fill(self, text: str) -> str:
        """The text with this desk's folder in it."""
        return text.replace(DESK, str(self.folder))

    def environment(self) -> dict[str, str]:
        """What keeps cases apart."""
        tmp = self.folder / "tmp"
        return {
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "OUTPUT_DIR": str(tmp),
            "TMPDIR": str(tmp),
        }


def edit(file: Path, edits: dict[str, str]) -> None:
    """Replaces in a file; keeps its mode."""
    before = after = file.read_bytes()
    for old, new in edits.items():
        after = after.replace(old.encode(), new.encode())
    if after != before:
        file.write_bytes(after)


def run(ground: Ground, case: Case) -> Outcome:
    """Runs one to its end, or to the end of patience."""
    desk = Desk(ground, case)
    words = [desk.fill(word) for word in case.words]
    extra = {name: desk.fill(value) for name, value in case.environment.items()}
    log = desk.folder / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(
            words,
            cwd=desk.targets / case.target,
            env=ground.environment | desk.environment() | extra,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            status = child.wait() and None
    seconds = time.monotonic() - began
    output = log.read_text(errors="replace")
    wrong = f"had not ended after {PATIENCE} s" if status is None else case.verdict(status, output)
    return Outcome(case, wrong, seconds, output)


def run_all(ground: Ground, cases: list[Case], at_a_time: int) -> bool:
    """Runs them side by side, but for those that want to be alone; tells of each as it ends, and whether all went well."""

    def runs_well(case: Case) -> bool:
        if case.lacks:
            print(f"SKIPPED {case.name}: {case.lacks}", flush=True)
            return True
        return tell(run(ground, case)).wrong is None

    good = [runs_well(case) for case in cases if case.alone]
    with ThreadPoolExecutor(at_a_time) as pool:
        good += pool.map(runs_well, [case for case in cases if not case.alone])
    return all(good)


def tell(outcome: Outcome) -> Outcome:
    if outcome.wrong:
        print(f"--- {outcome.case.name} ---\n{outcome.output}--- {outcome.case.name} {outcome.wrong} ---", flush=True)
    print(f"{'FAILED' if outcome.wrong else 'passed'}  {outcome.case.name}  {outcome.seconds:.1f} s", flush=True)
    return outcome
