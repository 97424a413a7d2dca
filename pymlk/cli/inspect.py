# SPDX-License-Identifier: MIT
"""``pymlk inspect``: what is in a model or program."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..compile import compile_graph, describe_op, read_quantised, unsupported
from ..compile.schema import Graph, Tensor
from ..engine import Program, programs
from ..errors import ModelError, UnsupportedOpError
from . import OK, PARTLY, kconfig
from .profile import profile, show


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.lower(),
        "shape": tensor.shape,
        "scale": tensor.scales[0] if tensor.scales else None,
        "zero_point": tensor.zero_points[0] if tensor.zero_points else None,
    }


def _model_facts(graph: Graph) -> tuple[dict[str, Any], Program | None]:
    missing = unsupported(graph)
    facts: dict[str, Any] = {
        "kind": "model",
        "description": graph.description,
        "inputs": [_tensor(graph.tensors[i]) for i in graph.inputs],
        "outputs": [_tensor(graph.tensors[i]) for i in graph.outputs],
        "operators": [
            {
                "name": op.name,
                "text": describe_op(graph, op),
                "supported": not any(m.startswith(f"{op} ") for m in missing),
            }
            for op in graph.ops
        ],
        "unsupported": missing,
    }
    try:
        program = Program(compile_graph(graph))
    except UnsupportedOpError as error:
        facts["unsupported"] = error.operators
        return facts, None
    facts.update(_cost(program))
    return facts, program


def _cost(program: Program) -> dict[str, Any]:
    return {
        "program_bytes": len(program),
        "arena_bytes": program.arena_bytes,
        "macs": program.macs,
    }


def _time(program: Program, options: argparse.Namespace) -> dict[str, Any]:
    """How long a run may take, and whether that is in the budget."""
    cost = program.cost(options.speed)
    facts: dict[str, Any] = {"at_most_ns": cost}
    if options.budget_ns is not None:
        facts |= {"budget_ns": options.budget_ns, "slow": cost > options.budget_ns}
    return facts


def _program_facts(program: Program) -> dict[str, Any]:
    return {
        "kind": "program",
        "name": program.name,
        "inputs": list(program.inputs),
        "outputs": list(program.outputs),
        "operators": [
            {"name": name, "text": name, "supported": True} for name in program.ops
        ],
        "unsupported": [],
        "source_crc": f"{program.source_crc:08x}",
        **_cost(program),
    }


def _print_tensor(role: str, tensor: dict[str, Any]) -> None:
    shape = "x".join(map(str, tensor["shape"])) or "scalar"
    quantisation = (
        f"scale {tensor['scale']:.7g}, zero point {tensor['zero_point']}"
        if tensor["scale"] is not None
        else "not quantised"
    )
    print(f"  {role:7} {tensor['name']}: {tensor['dtype']} {shape}, {quantisation}")


def _print(name: str, size: int, facts: dict[str, Any]) -> None:
    called = f" {facts['name']}" if facts.get("name") else ""
    print(f"{name}: {facts['kind']}{called}, {size} bytes")
    for tensor in facts["inputs"]:
        _print_tensor("input", tensor)
    for tensor in facts["outputs"]:
        _print_tensor("output", tensor)
    for i, op in enumerate(facts["operators"]):
        mark = "" if op["supported"] else "   NOT SUPPORTED by the engine"
        print(f"  op[{i}] {op['text']}{mark}")
    if facts["unsupported"]:
        print("  runs through tflite only:")
        for text in facts["unsupported"]:
            print(f"    {text}")
        return
    print(
        f"  program {facts['program_bytes']} bytes, arena {facts['arena_bytes']} "
        f"bytes, {facts['macs']} MACs"
    )
    text = f"  a run takes at most {facts['at_most_ns']:,} ns"
    if "slow" in facts:
        text += f", {'OVER' if facts['slow'] else 'in'} the budget of "
        text += f"{facts['budget_ns']:,} ns"
    print(text)
    if "profile" in facts:
        show(facts["profile"])


def _all_facts(data: bytes, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A model's, or those of all programs of a file."""
    found: list[tuple[dict[str, Any], Program | None]]
    if data[:4] == b"MLKP":
        model = None
        found = [(_program_facts(program), program) for program in programs(data)]
    else:
        model = data
        found = [_model_facts(read_quantised(data))]
    for facts, program in found:
        if program is None:
            continue
        facts.update(_time(program, options))
        if options.profile:
            facts["profile"] = profile(program, options.rounds, model)
    return [facts for facts, _ in found]


def _show(path: str, options: argparse.Namespace) -> bool:
    """Show one file; False if something is unsupported or too slow."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        found = _all_facts(data, options)
    except ModelError as error:
        raise type(error)(f"{path}: {error}") from error
    head = {"file": path, "bytes": len(data)}
    if options.json and len(found) == 1:
        print(json.dumps(head | found[0]))
    elif options.json:
        print(json.dumps(head | {"kind": "programs", "programs": found}))
    elif len(found) == 1:
        _print(path, len(data), found[0])
    else:
        for i, facts in enumerate(found):
            _print(f"{path}[{i}]", facts["program_bytes"], facts)
    return not any(facts["unsupported"] or facts.get("slow") for facts in found)


def main(options: argparse.Namespace) -> int:
    """Show files, or what is needed to run them."""
    if options.kconfig:
        kconfig.show(options.files)
        return OK
    fine = [_show(path, options) for path in options.files]
    return OK if all(fine) else PARTLY
