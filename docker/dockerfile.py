"""Reads Dockerfiles: instructions, stages, and the few words of each that the checks need."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

INSTRUCTIONS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}  # all that our files need


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=builder /a /b` is word "COPY", flags {"from": "builder"}, text "/a /b"."""

    word: str
    text: str
    flags: dict[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        return shlex.split(self.text)

    def pairs(self) -> dict[str, str]:
        """The assignments of an ENV or ARG."""
        return dict(word.partition("=")[::2] for word in self.words())


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    steps: list[Instruction]


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile; `ValueError` where the grammar is broken."""
    stages: list[Stage] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word not in INSTRUCTIONS or not rest.strip():
            raise ValueError(f"not an instruction with its arguments: {line!r}")
        flags = {}
        while found := re.match(r"\s*--(\w+)=(\S+)", rest):
            flags[found[1]] = found[2]
            rest = rest[found.end() :]
        if word == "FROM":
            base, *alias = rest.split()
            if alias and (len(alias) != 2 or alias[0] != "AS"):
                raise ValueError(f"FROM is `FROM image [AS name]`: {line!r}")
            stages.append(Stage(base, alias[1] if alias else "", []))
        elif not stages:
            raise ValueError(f"comes before FROM: {line!r}")
        else:
            stages[-1].steps.append(Instruction(word, rest.strip(), flags))
    if not stages:
        raise ValueError("no FROM")
    return stages


def expand(text: str, values: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, as Docker does in ENV, COPY, WORKDIR and USER."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: values.get(m[1] or m[2], ""), text)


def ignored(path: str, rules: list[str]) -> bool:
    """Whether .dockerignore keeps a path of the context out; the last rule that matches it decides."""
    out = False
    for rule in rules:
        pattern = rule.removeprefix("!").strip("/")
        regex = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(rf"{regex}(?:/.*)?", path):
            out = not rule.startswith("!")
    return out
