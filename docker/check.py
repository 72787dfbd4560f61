"""Builds the images of docker/ without Docker: each stage in a root made by debootstrap, step by step as its file says.

    python3 docker/check.py [cpu|gpu …] [--archs "sm_90"] [--root /var/tmp/gputape-docker-check]

Needs root rights, debootstrap and a network. Says so and does nothing where they are missing. The Python is Debian's,
not that of the official image; everything else is what the Dockerfile does.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from dockerfile import Instruction, Stage, expand, ignored, parse

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = {"cpu": "Dockerfile.cpu", "gpu": "Dockerfile"}
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"  # what the official Python image has
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FROM_HOST = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
PASSED = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def obstacle() -> str:
    """Why the check cannot run here, or ""."""
    if os.geteuid() != 0:
        return "root rights are needed (chroot)"
    if shutil.which("debootstrap") is None:
        return "debootstrap is missing: apt-get install debootstrap"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "mounting is not allowed here"
    return ""


def base_root(root: Path) -> Path:
    """A fresh Debian with Python, made once."""
    base, marker = root / "base", root / "base.made"
    if not marker.exists():
        shutil.rmtree(base, ignore_errors=True)
        root.mkdir(parents=True, exist_ok=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(base)], check=True)
        marker.touch()
    return base


class Build:
    """One stage: its root folder, and what ENV, ARG, WORKDIR and USER have set so far."""

    def __init__(self, root: Path, base: Path, arguments: dict[str, str], stages: dict[str, Path]) -> None:
        self.root, self.arguments, self.stages = root, arguments, stages
        self.env, self.args, self.folder, self.user = {"PATH": PATH}, {}, "/", "root"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
        for name in FROM_HOST:
            if Path(name).exists():
                (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, root / name[1:])

    def do(self, step: Instruction) -> None:
        """Follow one instruction. ENTRYPOINT and CMD are for the image's users."""
        action = getattr(self, f"on_{step.word.lower()}", None)
        if action is not None:
            action(step)

    def on_env(self, step: Instruction) -> None:
        self.env |= {name: expand(value, self.args | self.env) for name, value in step.pairs().items()}

    def on_arg(self, step: Instruction) -> None:
        self.args |= {name: self.arguments.get(name, default) for name, default in step.pairs().items()}

    def on_workdir(self, step: Instruction) -> None:
        self.folder = step.text
        self.inside(".").mkdir(parents=True, exist_ok=True)

    def on_user(self, step: Instruction) -> None:
        self.user = step.text

    def on_copy(self, step: Instruction) -> None:
        *sources, target = step.words()
        origin = self.stages[step.flags["from"]] if "from" in step.flags else None
        place = self.inside(target)
        for name in sources:
            source = origin / name[1:] if origin else REPOSITORY / name
            into = place / source.name if target.endswith("/") and not source.is_dir() else place
            into.parent.mkdir(parents=True, exist_ok=True)
            if origin:
                subprocess.run(["cp", "-a", "--reflink=auto", "-T", str(source), str(into)], check=True)
            else:
                self.from_context(name, source, into)
            if "chown" in step.flags:
                self.chroot(["chown", "-R", step.flags["chown"], str(Path("/", into.relative_to(self.root)))], "root")

    def from_context(self, name: str, source: Path, into: Path) -> None:
        rules = ignore_rules()
        if ignored(name, rules):
            raise FileNotFoundError(f"{name} is kept out by .dockerignore")

        def unwanted(folder: str, names: list[str]) -> list[str]:
            inside = Path(folder).relative_to(REPOSITORY)
            return [n for n in names if ignored(str(inside / n), rules)]

        if source.is_dir():
            shutil.copytree(source, into, dirs_exist_ok=True, ignore=unwanted)
        else:
            shutil.copy(source, into)

    def on_run(self, step: Instruction) -> None:
        self.chroot(["/bin/sh", "-c", step.text], self.user)

    def inside(self, path: str) -> Path:
        """Where a path of the image lies on this machine."""
        return self.root / str(Path("/", self.folder, path))[1:]

    def chroot(self, command: list[str], user: str) -> None:
        """Run a command in the root; /proc and /dev are mounted there for as long as it takes."""
        home = {"HOME": "/root" if user == "root" else f"/home/{user}"}
        passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED)}
        env = [f"{k}={v}" for k, v in {**passed, **home, **self.env, **self.args}.items()]
        there = ["/bin/sh", "-c", f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"]
        enter = ["chroot", f"--userspec={user}", str(self.root), "/usr/bin/env", "-i", *env, *there]
        mounts = f"mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev"
        script = f"{mounts} && exec {shlex.join(enter)}"
        subprocess.run(["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script], check=True)


def ignore_rules() -> list[str]:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def build(kind: str, stages: list[Stage], root: Path, arguments: dict[str, str]) -> None:
    """Follow a Dockerfile; `subprocess.CalledProcessError` where a step fails."""
    base, made = base_root(root), {}
    for number, stage in enumerate(stages):
        made[stage.name or "final"] = folder = root / f"{kind}-{number}"
        here = Build(folder, base, arguments, made)
        for step in stage.steps:
            start = time.monotonic()
            print(f"{kind} stage {number}: {step.word} {step.text}", flush=True)
            here.do(step)
            print(f"    {time.monotonic() - start:.1f} s", flush=True)
    size = subprocess.run(["du", "-sm", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"{kind}: the final root has {size} MB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="cpu|gpu", help="which images (default: both)")
    parser.add_argument("--archs", help="instead of the architectures that the Dockerfile names")
    parser.add_argument("--root", type=Path, default=Path("/var/tmp/gputape-docker-check"))
    parser.add_argument("--keep", action="store_true", help="leave the roots behind")
    options = parser.parse_args()
    why = obstacle()
    if why:
        print(f"docker-check: SKIPPED, nothing was checked: {why}", file=sys.stderr)
        return 0
    arguments = {"ARCHS": options.archs} if options.archs else {}
    kinds = options.kinds or list(FILES)
    try:
        for kind in kinds:
            build(kind, parse((REPOSITORY / "docker" / FILES[kind]).read_text()), options.root, arguments)
    except subprocess.CalledProcessError as e:
        print(f"docker-check: FAILED ({e.returncode})", file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            for kind in kinds:
                for folder in options.root.glob(f"{kind}-*"):
                    shutil.rmtree(folder, ignore_errors=True)
    print(f"docker-check: {', '.join(kinds)} built and smoke-tested, with Debian {SUITE}'s Python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
