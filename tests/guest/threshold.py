# SPDX-License-Identifier: MIT
"""Write an image for mlk_chardev: 512 for small writes, 4096, 8192 for large ones."""

import sys
from pathlib import Path

from pymlk.compile import compile_model
from pymlk.image import make_image, standardised
from pymlk.write import Layer, mlp

# the size of a write is the first of its features
WEIGHTS = [[-100, 0, 0, 0], [0, 0, 0, 0], [100, 0, 0, 0]]


def main() -> None:
    """Write it to the file that is named."""
    layer = Layer(WEIGHTS, [0, 3200, 0], [0.01], 0.25, 0, "NONE")
    image = make_image(
        compile_model(mlp([layer], 0.125, 0)),
        id=77,
        scales=[standardised(2000.0, 400.0, 0.125), *((0, 0, 0),) * 3],
        choices=[[512], [4096], [8192]],
    )
    Path(sys.argv[1]).write_bytes(image)


if __name__ == "__main__":
    main()
