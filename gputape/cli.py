"""The command line: `gputape train`, `eval`, `ops`, `warmup`, `doctor`."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import __version__, registry
from . import backend as _backend
from .checks import GAP, checks
from .errors import ArgumentError, BackendError, GputapeError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
OVERRIDES = ("epochs", "steps", "batch_size", "lr", "precision")  # options of train that replace the recipe's


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Errors are one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        with _backend.device(args.device) if getattr(args, "device", None) else contextlib.nullcontext():
            return args.run(args)
    except GputapeError as e:
        print(f"gputape: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("\ngputape: interrupted.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gputape", description="Train small models on a tape-based autodiff engine.")
    parser.add_argument("--version", action="version", version=f"gputape {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train an example model on real data")
    train.add_argument("model", nargs="?", default="digits-cnn", help="digits-cnn (default) or digits-mlp")
    train.add_argument("--epochs", type=int, help="passes over the training images")
    train.add_argument("--steps", type=int, help="stop after so many steps")
    train.add_argument("--batch-size", type=int)
    train.add_argument("--lr", type=float, help="peak learning rate")
    train.add_argument(
        "--precision", metavar="bf16", help="compute in bf16 or fp16; weights stay in fp32 (the default)"
    )
    train.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights, bit for bit")
    train.add_argument("--seeds", type=_seeds, metavar="0-4", help="train once per seed and print the mean accuracy")
    train.add_argument("--out", metavar="DIR", help="folder for the results (default: runs/MODEL)")
    train.add_argument("--resume", metavar="RUN", help="continue an interrupted run")
    train.add_argument("--device", help="cuda, cpu or emulated (default: cuda if there is one)")
    train.add_argument("--no-progress", action="store_true", help="no progress bar")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("eval", help="compute the test accuracy of a saved run again")
    evaluate.add_argument("folder", metavar="RUN", help="the folder that train printed")
    evaluate.add_argument("--device")
    evaluate.set_defaults(run=_eval)

    ops = commands.add_parser("ops", help="list the ops and what is checked of each")
    ops.add_argument("--missing", action="store_true", help="only the ops that lack something; fails if there are any")
    ops.set_defaults(run=_ops)

    warmup = commands.add_parser("warmup", help="compile the GPU kernels ahead of time; needs no GPU")
    default = "default: this machine's GPU, else all that are supported"
    warmup.add_argument("--arch", nargs="+", default=[], metavar="sm_90", help=f"architectures ({default})")
    warmup.add_argument("--jobs", type=int, help="compile so many at a time (default: one per core)")
    warmup.add_argument("--kernel", default="", help="only kernels whose name contains this")
    warmup.set_defaults(run=_warmup)

    doctor = commands.add_parser("doctor", help="versions, devices, what is missing and how to get it")
    doctor.set_defaults(run=_doctor)
    return parser


def _seeds(text: str) -> list[int]:
    """ "0-4" or "0,2,5" as a list."""
    try:
        found: list[int] = []
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of seeds; write 0-4 or 0,2,5") from None
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no seed; write 0-4 or 0,2,5")
    return found


# --- train and eval ---------------------------------------------------------------------------------------------------


def _need_extra(command: str) -> None:
    lacking = [name for name in ("sklearn", "matplotlib", "tqdm") if importlib.util.find_spec(name) is None]
    if lacking:
        names = ", ".join("scikit-learn" if n == "sklearn" else n for n in lacking)
        raise BackendError(f"{command}: {names} is missing. Run: pip install 'gputape[train]'")


class _Bar:
    """Progress as a bar on a terminal, and one line per epoch."""

    def __init__(self, shown: bool, done: int, total: int) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=total, initial=done, unit="step", leave=False, disable=None if shown else True, dynamic_ncols=True
        )

    def step(self, done: int, total: int) -> None:
        self.bar.update(done - self.bar.n)

    def epoch(self, row: dict[str, float], epochs: int) -> None:
        width = len(str(epochs))
        self.bar.write(
            f"epoch {row['epoch']:{width}d}/{epochs}  loss {row['loss']:.4f}  accuracy {100 * row['accuracy']:6.2f} %  "
            f"{row['images_per_second']:,.0f} images/s"
        )


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[Any]:
    """Gives a function that tells whether Ctrl-C was pressed. A second Ctrl-C raises KeyboardInterrupt at once."""
    pressed: list[int] = []

    def note(signum: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(signum)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _train(args: argparse.Namespace) -> int:
    _need_extra("train")
    from .train import Options

    if args.resume:
        return _resume(args)
    seeds = args.seeds or [args.seed]
    options = Options.of(args.model, **{name: getattr(args, name) for name in OVERRIDES})
    from .train.run import new_folder

    root = new_folder(args.model, args.out)
    results = []
    for seed in seeds:
        folder = root if len(seeds) == 1 else new_folder(args.model, str(root / f"seed-{seed}"))
        config = _train_one(args, replace(options, seed=seed), folder, resume=False)
        if config is None:
            return INTERRUPTED
        results.append(config["test"]["accuracy"])
    if len(seeds) > 1:
        for seed, accuracy in zip(seeds, results, strict=True):
            print(f"seed {seed}: test accuracy {100 * accuracy:.2f} %")
        print(f"mean of {len(seeds)} seeds: test accuracy {100 * sum(results) / len(results):.2f} %")
    return 0


def _resume(args: argparse.Namespace) -> int:
    given = [n for n in (*OVERRIDES, "seeds", "out") if getattr(args, n) is not None]
    if given or args.seed:
        names = ", ".join("--" + n.replace("_", "-") for n in (given or ["seed"]))
        raise ArgumentError(f"train: --resume continues a run with its own options. Leave {names} out.")
    from .train.run import read_options

    folder = Path(args.resume)
    options, _, _ = read_options(folder)
    return 0 if _train_one(args, options, folder, resume=True) is not None else INTERRUPTED


def _train_one(args: argparse.Namespace, options: Any, folder: Path, resume: bool) -> dict[str, Any] | None:
    """One run with its messages; None if it was interrupted."""
    from .train import Interrupted, train_run

    device = _backend.current().name
    print(f"{options.model}, seed {options.seed}, on {device}: results go to {folder}", flush=True)
    bars: list[_Bar] = []

    class Lazy:
        """Opens the bar at the first step, when it is known how many there are."""

        def step(self, done: int, total: int) -> None:
            if not bars:
                bars.append(_Bar(not args.no_progress, done - 1, total))
            bars[0].step(done, total)

        def epoch(self, row: dict[str, float], epochs: int) -> None:
            bars[0].epoch(row, epochs)

    try:
        with _stop_on_interrupt() as stop:
            config = train_run(options, folder, Lazy(), stop, resume)
    except Interrupted:
        print(
            f"stopped; the weights so far are in {folder}.\n"
            f"  continue: gputape train --resume {folder}\n"
            f"  test:     gputape eval {folder}"
        )
        return None
    finally:
        for bar in bars:
            bar.bar.close()
    test = config["test"]
    print(f"test accuracy {100 * test['accuracy']:.2f} % ({test['correct']} of {test['total']} images)")
    print(f"results in {folder}: model.safetensors, metrics.csv, config.json, loss.png, confusion.png", flush=True)
    return config


def _eval(args: argparse.Namespace) -> int:
    _need_extra("eval")
    from .train import evaluate_run

    found, saved = evaluate_run(Path(args.folder))
    print(f"test accuracy {100 * found['accuracy']:.2f} % ({found['correct']} of {found['total']} images)")
    if saved is None:
        print("the run has no saved accuracy: it was not finished")
    elif saved != found:
        print(
            f"gputape: eval: the run was saved with {saved['correct']} of {saved['total']} right. "
            "Another machine or library version can round differently; on the same one this is a bug.",
            file=sys.stderr,
        )
        return 1
    else:
        print("the same as saved with the run")
    return 0


# --- ops, warmup and doctor -------------------------------------------------------------------------------------------


def _ops(args: argparse.Namespace) -> int:
    rows = {op.name: checks(op) for op in sorted(registry.ops(), key=lambda op: op.name)}
    gaps = sum(list(row.values()).count(GAP) for row in rows.values())
    shown = {name: row for name, row in rows.items() if not args.missing or GAP in row.values()}
    if shown:
        table = [["op", *next(iter(shown.values()))], *([name, *row.values()] for name, row in shown.items())]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table:
            print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    print(f"{len(rows)} ops, {gaps} gaps ({GAP})")
    return 1 if args.missing and gaps else 0


def _warmup(args: argparse.Namespace) -> int:
    from .warmup import warm

    return warm(args.arch, args.jobs, args.kernel)


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import report

    lines, healthy = report()
    print("\n".join(lines))
    return 0 if healthy else 1
