# SPDX-License-Identifier: MIT
"""The arguments of the command ``pymlk``, by argparse: help, errors, every command."""

from __future__ import annotations

import argparse
import os

from .. import __version__
from .plain import JSON, LEARNT_DIR, ROOT, RUN, STATE_DIR, count, positive

EXIT_CODES = """\
exit codes:
  0    done
  1    done, but something is invalid, unsupported, too slow or was not restored
  2    wrong usage
  3    a policy, model or field is wrong; the message says where
  4    the system refused: permission, no such file, input/output error
  130  interrupted (knobs are restored first)
"""


def _columns() -> int:
    """Of the terminal; 80 if there is none."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Knows its width: argparse would load archive libraries to find it out."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _epilog(*examples: str) -> str:
    return "examples:\n" + "".join(f"  {line}\n" for line in examples)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    *examples: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_epilog(*examples),
        formatter_class=_Formatter,
    )
    parser.add_argument("--json", **JSON)
    parser.set_defaults(module=name)
    return parser


def _speed(text: str) -> tuple[int, ...]:
    values = tuple(map(int, text.split(",")))
    if len(values) != 3 or not all(0 <= value < 1 << 32 for value in values):
        raise argparse.ArgumentTypeError(f"{text} found, three numbers expected")
    return values


def _sizes(text: str) -> list[int]:
    values = [int(value) for value in text.split(",")] if text else []
    if len(values) > 3 or not all(1 <= value <= 1024 for value in values):
        raise argparse.ArgumentTypeError(
            f"{text} found, at most three sizes from 1 to 1024 expected, such as 16,8"
        )
    return values


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", **ROOT)


def _state_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", **STATE_DIR)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text} found, NAME=VALUE expected")
    return name, value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} found, above 0 to 1000 expected")
    return value


def _reals(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _values(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _add_attrs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "attrs",
        "find and read fields of sysfs/procfs attributes",
        "pymlk attrs '/sys/block/*/queue/read_ahead_kb' '/proc/meminfo[MemFree]'",
        "pymlk attrs --find scheduler",
        "pymlk attrs '/proc/pressure/io[some.avg10]' --watch 1",
    )
    p.add_argument("fields", nargs="*", metavar="FIELD", help="PATH[SELECTOR]")
    p.add_argument(
        "--find",
        metavar="TEXT",
        help="list (without reading them) attributes whose path contains TEXT",
    )
    p.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=1.0,
        metavar="SECONDS",
        help="read again and again (default: each second)",
    )
    p.add_argument("--count", type=count, help="stop watching after so many rows")
    _root(p)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "inspect",
        "show a model or program: operators, shapes, quantisation, cost",
        "pymlk inspect model.tflite",
        "pymlk inspect --json model.mlk | jq .macs",
        "pymlk inspect --profile model.tflite",
        "pymlk inspect --budget-ns 50000 model.mlk",
        "pymlk inspect --kconfig model.tflite > my_defconfig",
    )
    p.add_argument(
        "files", nargs="+", metavar="FILE", help=".tflite model or .mlk program"
    )
    p.add_argument(
        "--kconfig",
        action="store_true",
        help="print the smallest configuration that runs these models, for `make "
        "defconfig CONFIG_FROM=`",
    )
    p.add_argument(
        "--profile",
        action="store_true",
        help="measure each operator, and the same model on tflite-runtime and LiteRT "
        "where they are installed",
    )
    p.add_argument(
        "--rounds", type=count, default=30, help="rounds to take the median of"
    )
    p.add_argument(
        "--budget-ns",
        type=count,
        metavar="N",
        help="exit code 1 if a run may take longer",
    )
    p.add_argument(
        "--speed",
        type=_speed,
        metavar="OP,MAC,ITEM",
        help="picoseconds that the target takes at most, for that estimate: an "
        "operator, a multiply-accumulate, any other value (default: plain C, 1 GHz)",
    )
    p = _command(
        commands,
        "compile",
        "compile .tflite models into a file of programs, a policy with its model into "
        "a prepared one",
        "pymlk compile model.tflite",
        "pymlk compile model.tflite -o /boot/model.mlk",
        "pymlk compile first.tflite second.tflite -o both.mlk",
        "pymlk compile --reuse-inputs model.tflite",
        "pymlk compile policy.toml -o /etc/pymlk/board.plan",
    )
    p.add_argument(
        "models", nargs="+", metavar="MODEL", help="quantised .tflite file, or a policy"
    )
    p.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="default: MODEL with the ending .mlk (a policy: .plan); needed for "
        "several",
    )
    p.add_argument(
        "--reuse-inputs",
        action="store_true",
        help="smaller arena: a run overwrites its inputs, so all of them must be "
        "written before each",
    )
    p = _command(
        commands,
        "bench",
        "measure snapshots and inference on this machine",
        "pymlk bench",
        "pymlk bench model.tflite --rounds 50",
    )
    p.add_argument(
        "model", nargs="?", metavar="MODEL", help="default: the readahead model"
    )
    p.add_argument(
        "--rounds", type=count, default=20, help="rounds to take the median of"
    )


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "run",
        "run policies: shadow mode unless --apply",
        "pymlk run readahead --seconds 10",
        "pymlk run ./policy.toml --apply",
        "pymlk run readahead --json --decisions 100 > decisions.jsonl",
        "pymlk run readahead --apply --record /var/log/pymlk",
        "pymlk run --quiet --apply readahead ./slow-io.toml",
    )
    p.add_argument(
        "policies",
        nargs="+",
        metavar="POLICY",
        help="policy file, its folder, a shipped name, or what `pymlk compile` made of "
        "a policy (.plan)",
    )
    for name, about in RUN.items():
        p.add_argument(name, **about)
    p = _command(
        commands,
        "restore",
        "put knobs back that a killed run has left changed",
        "pymlk restore",
    )
    _state_dir(p)
    p = _command(
        commands,
        "learn",
        "show or forget what was learnt on this device",
        "pymlk learn --show",
        "pymlk learn --show readahead",
        "pymlk learn --reset readahead",
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--show",
        nargs="?",
        const="",
        metavar="NAME",
        help="of one policy; of all without NAME",
    )
    what.add_argument("--reset", metavar="NAME", help="back to the shipped model")
    p.add_argument("--learnt-dir", **LEARNT_DIR)


def _add_new(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "new",
        "write the first form of a policy",
        "pymlk new my-disks",
        "pymlk new my-disks --knob '/sys/block/*/queue/read_ahead_kb' "
        "--values 8,32,128 --field 'reads=/sys/block/*/stat[0]' "
        "--field 'sectors=/sys/block/*/stat[2]' --objective sectors --skip 'loop*'",
        "pymlk new batching --proxy 'net/*'",
    )
    p.description = (
        "Write the first form of a policy, with features that suit its fields. On a "
        "terminal it asks for what the options do not say. A * in a path, such as "
        "/sys/block/*/stat[0], stands for each device."
    )
    p.add_argument(
        "name", metavar="DIR", help="the folder to make; its last part is the name"
    )
    p.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="[NAME=]FIELD",
        help="PATH[SELECTOR]; whether it is a counter is found out",
    )
    for kind in ("counter", "gauge"):
        p.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="[NAME=]FIELD",
            help=f"a field that is a {kind}",
        )
    p.add_argument("--knob", metavar="PATH", help="what the policy changes")
    p.add_argument("--values", type=_values, metavar="A,B", help="what it may have")
    p.add_argument(
        "--default", type=int, metavar="N", help="(default: nearest to the present)"
    )
    p.add_argument("--unit", default="", metavar="TEXT", help="of the knob")
    p.add_argument("--objective", metavar="NAME", help="the field to raise the rate of")
    p.add_argument("--devices", metavar="PATTERN", help="such as '/sys/block/*'")
    p.add_argument(
        "--skip", action="append", default=[], metavar="PATTERN", help="leave these out"
    )
    p.add_argument(
        "--proxy",
        metavar="SUBSYSTEM/MODEL",
        help="models in the kernel; they say themselves what they have",
    )
    p.add_argument(
        "--interval-ms",
        type=count,
        default=1000,
        metavar="N",
        help="between decisions",
    )
    p.add_argument(
        "--history", type=count, default=1, metavar="N", help="rows the model sees"
    )
    p.add_argument(
        "--target",
        choices=("sweep", "label", "future"),
        default="sweep",
        help="where the truth comes from: measured values, labels, or what follows",
    )
    p.add_argument(
        "--family", choices=("mlp", "conv", "trees", "linear"), default="mlp"
    )
    p.add_argument("--of", metavar="NAME", help="future: the field to foretell")
    p.add_argument(
        "--horizon", type=positive, default=5.0, metavar="S", help="future: how far"
    )
    p.add_argument(
        "--thresholds", type=_reals, metavar="A,B", help="future: between the values"
    )
    _root(p)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "check",
        "check a policy on this machine; nothing is changed",
        "pymlk check readahead",
        "pymlk check ./my-disks --seconds 10",
    )
    p.add_argument(
        "policy", metavar="POLICY", help="policy file, its folder, or a shipped name"
    )
    p.add_argument(
        "--seconds",
        type=positive,
        default=1.0,
        metavar="N",
        help="how long features are looked at (default: 1)",
    )
    _root(p)
    _state_dir(p)


def _add_collect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "collect",
        "record what a policy would see, for training; sweep its knob",
        "pymlk collect readahead -o run.mlkd --seconds 60 --label idle",
        "pymlk collect ./policy.toml -o run.mlkd --label seq -- fio job.fio",
        "pymlk collect readahead -o run.mlkd --device sdb --sweep --seeds 3 "
        "--score-json jobs.0.read.iops --seconds 10 -- "
        "fio --runtime={seconds} --output-format=json job.fio",
        "pymlk collect readahead -o run.mlkd --jobs jobs.toml --dry-run",
        "pymlk collect --info run.mlkd",
    )
    p.usage = "pymlk collect POLICY -o FILE [options] [-- COMMAND ...]"
    p.add_argument(
        "policy",
        nargs="?",
        metavar="POLICY",
        help="policy file, its folder, or a shipped name; it needs no model yet",
    )
    p.add_argument("-o", "--output", metavar="FILE", help="the dataset, .mlkd")
    p.add_argument(
        "--append",
        action="store_true",
        help="go on behind what FILE has; --sweep and --jobs do it anyway, and leave "
        "out what is there",
    )
    p.add_argument("--info", metavar="FILE", help="only say what that dataset has")
    p.add_argument(
        "--jobs", metavar="FILE", help="record the workloads that this TOML file names"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="only say how many runs there are"
    )
    p.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="record this one (a pattern), even if the policy skips it; again for more",
    )
    p.add_argument(
        "--rate",
        type=_rate,
        metavar="HZ",
        help="snapshots a second, at most 1000 (default: as often as the policy "
        "decides, but 10); of models in the kernel each sample is taken",
    )
    p.add_argument(
        "--seconds",
        type=positive,
        metavar="N",
        help="record so long; a COMMAND without {seconds} in its words is ended then",
    )
    p.add_argument(
        "--settle",
        type=positive,
        metavar="N",
        default=0.0,
        help="leave out the first so many seconds of each run",
    )
    p.add_argument("--label", metavar="TEXT", help="what it is an example of")
    p.add_argument(
        "--workload", metavar="TEXT", help="its name (default: label or program)"
    )
    p.add_argument(
        "--group",
        default="",
        metavar="TEXT",
        help="what tests of a model must leave out as a whole: a board, a disk",
    )
    p.add_argument(
        "--tag", action="append", type=_pair, default=[], metavar="NAME=VALUE"
    )
    p.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of a single run, to be noted"
    )
    p.add_argument(
        "--sweep",
        action="store_true",
        help="run COMMAND at each value of the knob, which is put back at the end",
    )
    p.add_argument("--values", type=_values, metavar="A,B", help="sweep only these")
    p.add_argument(
        "--seeds", type=count, default=1, metavar="N", help="sweep so many times"
    )
    p.add_argument(
        "--score",
        metavar="REGEX",
        help="the score is the last match of its group in what COMMAND prints; more is "
        "better (default: the objective's rate)",
    )
    p.add_argument(
        "--score-json",
        metavar="PATH",
        help="the same in the JSON that it prints, such as jobs.0.read.iops",
    )
    _root(p)
    _state_dir(p)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "train",
        "train a policy's model on datasets, and judge it",
        "pymlk train ./policy.toml run.mlkd",
        "pymlk train ./policy.toml run.mlkd --family trees --no-write",
        "pymlk train ./policy.toml monday.mlkd tuesday.mlkd --search 50",
        "pymlk train ./policy.toml run.mlkd --json | jq .model.score",
    )
    p.add_argument(
        "policy", metavar="POLICY", help="policy file or its folder, with [train]"
    )
    p.add_argument("data", nargs="+", metavar="DATA", help="datasets (.mlkd)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    p.add_argument(
        "--family",
        choices=("mlp", "conv", "trees", "linear"),
        help="instead of what the policy says",
    )
    p.add_argument(
        "--hidden", type=_sizes, metavar="A,B", help="sizes of hidden layers, instead"
    )
    p.add_argument("--epochs", type=count, metavar="N", help="most epochs, instead")
    p.add_argument(
        "--search",
        type=count,
        metavar="N",
        help="try N settings first, on folds that then say nothing of the result; goes "
        "on with search.journal beside the policy",
    )
    p.add_argument(
        "--allow-leak",
        action="append",
        metavar="NAME",
        help="a feature, or `knob`, that may tell the class; again for more",
    )
    p.add_argument(
        "--no-write", action="store_true", help="only say how good the model is"
    )
    p.add_argument(
        "--force",
        action="store_true",
        help="write a model that does not beat what needs none",
    )
    p = _command(
        commands,
        "eval",
        "judge a policy's model on datasets",
        "pymlk eval readahead run.mlkd",
        "pymlk eval readahead run.mlkd --report readahead.html",
        "pymlk eval ./policy.toml run.mlkd --folds --json",
        "pymlk eval ./policy.toml run.mlkd --target-ns 200",
    )
    p.add_argument(
        "policy", metavar="POLICY", help="policy file, its folder, or a shipped name"
    )
    p.add_argument("data", nargs="+", metavar="DATA", help="datasets (.mlkd)")
    p.add_argument("--report", metavar="FILE", help="write an HTML page with plots")
    p.add_argument(
        "--folds",
        action="store_true",
        help="train anew with parts left out, each workload and each group too, and "
        "judge those models instead of the policy's own",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="of --folds")
    p.add_argument(
        "--target-ns",
        type=count,
        metavar="N",
        help="exit code 1 if the median of a run is longer",
    )


def _add_proxy(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "proxy",
        "show models of the kernel module mlk, and what they do",
        "pymlk proxy",
        "pymlk proxy block/readahead --json",
        "pymlk proxy readahead --control init start run --mode learning",
        "pymlk proxy readahead --watch --count 10",
    )
    p.add_argument("name", nargs="?", metavar="NAME", help="SUBSYSTEM/MODEL, or MODEL")
    p.add_argument(
        "--control",
        nargs="+",
        choices=("init", "start", "run", "stop", "sample", "discard"),
        help="change its state, by one word after the other",
    )
    p.add_argument(
        "--mode",
        choices=("emergency", "learning", "collaboration", "recommendation"),
        help="change who decides; after --control",
    )
    p.add_argument("--watch", action="store_true", help="print its records")
    p.add_argument("--count", type=count, help="stop watching after so many records")
    p.add_argument(
        "--seconds", type=positive, metavar="N", help="stop watching after so long"
    )
    _root(p)


def _add_record(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _command(
        commands,
        "replay",
        "compute recorded decisions again, and say why one ended as it did",
        "pymlk replay /var/log/pymlk/readahead",
        "pymlk replay /var/log/pymlk/readahead --why 1207@vda",
        "pymlk replay --json log/decisions-00000003.mlkr | jq .summary",
    )
    p.add_argument("log", metavar="LOG", help="folder of a record, or one file of it")
    p.add_argument(
        "--why",
        metavar="SEQ[@DEVICE]",
        help="explain this decision: fields, features, outputs, the guard's steps",
    )
    p = _command(
        commands,
        "export",
        "write recorded decisions or a dataset as a table, or a dataset from one",
        "pymlk export /var/log/pymlk/readahead -o decisions.csv",
        "pymlk export /var/log/pymlk/readahead -o decisions.parquet",
        "pymlk export run.mlkd -o run.parquet",
        "pymlk export run.parquet -o run.mlkd",
    )
    p.add_argument(
        "log",
        metavar="LOG",
        help="folder of a record, or one file of it; a dataset (.mlkd), or what was "
        "exported of one (.parquet)",
    )
    p.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help=".csv, .parquet; .mlkd from .parquet",
    )


def _add_completion(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    _command(
        commands,
        "completion",
        "print the bash completion script",
        'eval "$(pymlk completion)"',
        "pymlk completion > /etc/bash_completion.d/pymlk",
    )


_ADD = (
    _add_attrs,
    _add_models,
    _add_run,
    _add_new,
    _add_check,
    _add_collect,
    _add_train,
    _add_record,
    _add_proxy,
    _add_completion,
)


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser of all commands.

    Parameters
    ----------
    command : str or None
        The command that follows, if that is known: ``run`` needs no other's options.

    Returns
    -------
    argparse.ArgumentParser
        Also what the shell completion is generated from.

    Thread safety
    -------------
    Pure function.
    """
    parser = argparse.ArgumentParser(
        prog="pymlk",
        description="Models that help the kernel decide: attributes in, a guarded "
        "recommendation out.",
        epilog=EXIT_CODES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"pymlk {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    # a slow board's daemon should not wait for the others' options
    for add in (_add_run,) if command == "run" else _ADD:
        add(commands)
    return parser
