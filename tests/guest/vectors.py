# SPDX-License-Identifier: MIT
"""Write the programs of the fuzzer's corpus as C, each with an input and its output.

The outputs are those of the engine in Python, which other tests compare with
tflite-runtime: so the engine in the kernel is held to the same bytes.
"""

import random
from pathlib import Path

from pymlk import Model, Program

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


def array(name: str, data: bytes) -> str:
    """A C array; the engine wants programs aligned."""
    text = ", ".join(map(str, data))
    return f"static const u8 {name}[] __aligned(16) = {{ {text} }};\n"


def main() -> None:
    """Print the header."""
    rng = random.Random(1)
    print("/* SPDX-License-Identifier: GPL-2.0-only */")
    print("struct mlk_vector { const char *name; const u8 *program; u32 bytes;")
    print("const u8 *input; const u8 *output; };")
    table = []
    for path in sorted(CORPUS.glob("*.mlk")):
        program = Program.from_file(path)
        if any("float" in t["dtype"] for t in program.inputs + program.outputs):
            continue
        model = Model(program)
        given = b""
        for view in model.inputs:
            flat = view.cast("B")
            flat[:] = rng.randbytes(len(flat))
            given += bytes(flat)
        model.invoke()
        found = b"".join(bytes(view.cast("B")) for view in model.outputs)
        name = f"mlk_vector_{path.stem}"
        print(array(name, bytes(program)))
        print(array(f"{name}_in", given))
        print(array(f"{name}_out", found))
        table.append(
            f'{{ "{path.stem}", {name}, sizeof({name}), {name}_in, {name}_out }}'
        )
    print("static const struct mlk_vector mlk_vectors[] = {", ",\n".join(table), "};")


if __name__ == "__main__":
    main()
