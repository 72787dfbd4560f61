"""The files in docker/: their grammar, what they promise, their locks, and those of their scripts that are light.

`make docker-check` runs all of the scripts in order; it needs root rights and a network.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
FILES = {"gpu": DOCKER / "Dockerfile", "cpu": DOCKER / "Dockerfile.cpu"}
SCRIPTS = sorted(DOCKER.glob("*.sh"))
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|build-essential|nvcc|cuda-toolkit|apt|apt-get|make)\b")


def load(name):
    """A module of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


dockerfile = load("dockerfile")
RULES = [r for r in (ROOT / ".dockerignore").read_text().splitlines() if r and not r.startswith("#")]
STAGES = {kind: dockerfile.parse(path.read_text()) for kind, path in FILES.items()}
EACH = pytest.mark.parametrize("kind", FILES)


def steps(kind, *words):
    return [s for stage in STAGES[kind] for s in stage.steps if s.word in words]


@EACH
def test_stages(kind):
    builder, final = STAGES[kind]
    assert builder.name and not final.name
    assert builder.base == final.base == "python:3.12-slim-bookworm"
    assert json.loads(final.steps[-2].text) == ["gputape"] and final.steps[-2].word == "ENTRYPOINT"
    assert final.steps[-1].word == "CMD" and isinstance(json.loads(final.steps[-1].text), list)


@EACH
def test_the_image_runs_as_an_ordinary_user(kind):
    users = [s.text for s in STAGES[kind][-1].steps if s.word == "USER"]
    assert users == ["gputape"]
    assert f"useradd --create-home --uid 1000 --shell /usr/sbin/nologin {users[0]}" in (DOCKER / "user.sh").read_text()


@EACH
def test_every_run_step_calls_one_script_that_was_copied(kind):
    for stage in STAGES[kind]:
        copied, folder = set(), "/"
        for step in stage.steps:
            if step.word == "WORKDIR":
                folder = step.text
            if step.word == "COPY" and "from" not in step.flags:
                *sources, target = step.words()
                copied |= {str(Path(folder, target, Path(s).name)) for s in sources}
            if step.word == "RUN":
                script = step.words()[0]
                assert re.fullmatch(r"\S+\.sh", script) and not set(step.text) & set(";&|"), step
                assert str(Path(folder, script)) in copied, f"{script} is not in the stage yet"


@EACH
def test_what_is_copied_exists_and_is_not_ignored(kind):
    names = {stage.name for stage in STAGES[kind]} - {""}
    for step in steps(kind, "COPY"):
        *sources, _ = step.words()
        if "from" in step.flags:
            assert step.flags["from"] in names
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not dockerfile.ignored(source, RULES), source


def test_what_the_context_leaves_out():
    for name in (".git", ".venv/bin/python", "tests/test_docker.py", "runs", "gputape/ops/__pycache__", "perf/results"):
        assert dockerfile.ignored(name, RULES), name
    for name in ("gputape/ops/conv.py", "gputape/kernels/cuda/device.h", "docker/install.sh", "pyproject.toml"):
        assert not dockerfile.ignored(name, RULES), name


@EACH
def test_no_compiler_is_installed_anywhere(kind):
    for step in steps(kind, "RUN", "COPY"):
        assert not COMPILERS.search(step.text), step
    for name in {Path(s.words()[0]).name for s in steps(kind, "RUN")} - {"smoke.sh"}:
        assert not COMPILERS.search((DOCKER / name).read_text()), name


@EACH
def test_both_stages_name_the_same_cache_and_assembler(kind):
    settings = [dict(p for s in stage.steps if s.word == "ENV" for p in s.pairs().items()) for stage in STAGES[kind]]
    for name in ("GPUTAPE_CACHE_DIR", "TRITON_PTXAS_BLACKWELL_PATH"):  # both are part of what a kernel is found by
        assert settings[0].get(name) == settings[1].get(name)
        assert (kind == "gpu") == (name in settings[1])


def test_kernels_are_compiled_for_every_supported_architecture():
    from gputape.kernels.gate import ARCHS

    (argument,) = [s for s in steps("gpu", "ARG") if "ARCHS" in s.pairs()]
    assert argument.pairs()["ARCHS"].split() == [f"sm_{a}" for a in ARCHS]
    assert "docker/warmup.sh $ARCHS" in [s.text for s in steps("gpu", "RUN")]


@pytest.mark.parametrize(
    "text",
    ["RUN ls", "FROM a\nINSTALL b", "FROM a b c", "FROM a\nRUN", ""],
    ids=["before FROM", "unknown", "FROM", "no arguments", "empty"],
)
def test_the_grammar_check_refuses(text):
    with pytest.raises(ValueError):
        dockerfile.parse(text)


def test_the_grammar_check_reads():
    (stage,) = dockerfile.parse('# x\nFROM a AS b\nENV A=1 \\\n  B="2 3"\nCOPY --from=c --chown=d:e /f /g/\n')
    assert (stage.base, stage.name) == ("a", "b")
    assert stage.steps[0].pairs() == {"A": "1", "B": "2 3"}
    assert stage.steps[1].flags == {"from": "c", "chown": "d:e"} and stage.steps[1].words() == ["/f", "/g/"]
    assert dockerfile.expand("/x:${A}:$B:$NONE", {"A": "1", "B": "2"}) == "/x:1:2:"


# --- lock files -------------------------------------------------------------------------------------------------------


def locked(kind):
    """{name: [(version, marker, number of hashes)]} of a lock file."""
    found = {}
    text = (DOCKER / f"requirements-{kind}.lock").read_text().replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        head, *hashes = re.split(r"\s+--hash=", line.strip())
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), line
        need = Requirement(head)
        (pin,) = need.specifier
        assert pin.operator == "==" and not need.url, head
        found.setdefault(canonicalize_name(need.name), []).append((pin.version, need.marker, len(hashes)))
    return found


@EACH
def test_locks_pin_what_pyproject_asks_for(kind):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    asked = project["build-system"]["requires"] + project["project"]["dependencies"] + extras["train"]
    asked += extras["gpu"] if kind == "gpu" else []
    pins = locked(kind)
    for need in map(Requirement, asked):
        versions = [version for version, _, _ in pins[canonicalize_name(need.name)]]
        assert all(need.specifier.contains(v) for v in versions), (need, versions)
    assert all(hashes > 0 for found in pins.values() for *_, hashes in found)
    for found in pins.values():  # exactly one version on the Python of the image
        image = {"python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}
        assert sum(marker is None or marker.evaluate(image) for _, marker, _ in found) <= 1
    if kind == "gpu":
        assert {"nvidia-cublas-cu12", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"} <= set(pins)


def test_locks_name_no_registry():
    for path in DOCKER.glob("*.lock"):
        assert not re.search(r"://|index-url|find-links", path.read_text())


# --- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.name)
def test_scripts_are_portable_and_stop_at_errors(path):
    assert path.stat().st_mode & 0o111 and path.read_text().startswith("#!/bin/sh\n# " + path.name)
    assert re.search(r"^set -eu$", path.read_text(), re.M)
    subprocess.run(["sh", "-n", str(path)], check=True)


def program(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


def test_install_asks_for_hashes_and_wheels_only(tmp_path):
    log = tmp_path / "log"
    program(tmp_path / "venv" / "bin", "python", f'echo "$@" >> {log}; echo {tmp_path}/packages\n')
    program(tmp_path / "bin", "python3", f'echo "$@" >> {log}\n')
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "VENV": str(tmp_path / "venv")}
    subprocess.run([str(DOCKER / "install.sh"), "gpu"], env=env, check=True, capture_output=True)
    first, second, *_ = log.read_text().splitlines()
    assert first == f"-m venv {tmp_path}/venv"
    assert "--require-hashes" in second and "--only-binary=:all:" in second
    assert second.endswith("/requirements-gpu.lock") and Path(second.split()[-1]).exists()
    link = (tmp_path / "venv" / "bin" / "ptxas").readlink()
    assert link == tmp_path / "packages" / "triton" / "backends" / "nvidia" / "bin" / "ptxas"


def test_warmup_passes_the_architectures_and_drops_triton_s_own_cache(tmp_path):
    program(tmp_path / "venv" / "bin", "gputape", f'echo "$@" "$TRITON_CACHE_DIR" > {tmp_path}/log\n')
    env = {"PATH": "/usr/bin:/bin", "VENV": str(tmp_path / "venv"), "TMPDIR": str(tmp_path)}
    subprocess.run([str(DOCKER / "warmup.sh"), "sm_80", "sm_90"], env=env, check=True)
    *words, cache = (tmp_path / "log").read_text().split()
    assert words == ["warmup", "--arch", "sm_80", "sm_90"]
    assert cache.startswith(str(tmp_path)) and not Path(cache).exists()


TRAIN = 'for a in "$@"; do out=$a; done; [ "$1" = doctor ] || { mkdir -p "$out"; echo w > "$out/model.safetensors"; }\n'


def smoke(tmp_path, kind, uid=1000, tools=(), kernels=1):
    """Run smoke.sh in an image of stand-ins; (exit code, output)."""
    place = tmp_path / "bin"
    for name in ("sh", "mktemp", "rm", "mkdir", "ls", "wc"):
        place.mkdir(exist_ok=True)
        (place / name).symlink_to(shutil.which(name))
    program(place, "id", f"echo {uid}\n")
    program(place, "gputape", TRAIN)
    for name in tools:
        program(place, name, "")
    cache = tmp_path / "cache" / "cubin"
    cache.mkdir(parents=True)
    for k in range(kernels):
        (cache / f"{k}.cubin").touch()
    env = {"PATH": str(place), "GPUTAPE_CACHE_DIR": str(cache.parent), "TMPDIR": str(tmp_path)}
    made = subprocess.run([str(DOCKER / "smoke.sh"), kind], env=env, capture_output=True, text=True)
    return made.returncode, made.stdout + made.stderr


def test_smoke_passes_a_good_image(tmp_path):
    assert smoke(tmp_path, "gpu", kernels=3) == (0, "smoke: 3 precompiled kernels\n")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith("tmp.")]


@pytest.mark.parametrize(
    "fault, said",
    [
        ({"uid": 0}, "runs as root"),
        ({"tools": ["gcc"]}, "gcc is in the image"),
        ({"tools": ["nvcc"]}, "nvcc is in the image"),
        ({"kernels": 0}, "no kernel is precompiled"),
    ],
    ids=lambda x: "",
)
def test_smoke_refuses(tmp_path, fault, said):
    code, output = smoke(tmp_path, "gpu", **fault)
    assert code == 1 and said in output


def test_docker_check_says_loudly_that_it_skips(tmp_path):
    env = {"PATH": str(tmp_path)}
    made = subprocess.run([sys.executable, str(DOCKER / "check.py")], env=env, capture_output=True, text=True)
    assert made.returncode == 0 and "SKIPPED, nothing was checked" in made.stderr
