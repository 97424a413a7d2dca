# SPDX-License-Identifier: MIT
"""Run a program once over the bytes 0, 1, 2, ... and print its outputs' bytes."""

import sys

sys.path.append("/usr/lib/pymlk")
from pymlk import Model  # noqa: E402

model = Model(sys.argv[1])
for view in model.inputs:
    view.cast("B")[:] = bytes(i & 127 for i in range(view.nbytes))
model.invoke()
print(b"".join(bytes(view.cast("B")) for view in model.outputs).hex())
