# SPDX-License-Identifier: MIT
"""Training and judging a policy's model; needs the extra ``train``, off the device.

`data` makes examples of recorded runs, `splits` parts them and looks for leaks,
`network` and `trees` learn, `quantise` makes the file, `judge` compares it with what
needs no model. Only `pymlk train` and `pymlk eval` load any of it.
"""

from importlib.util import find_spec

from ..errors import ModelError

_NEEDED = (
    "jinja2",
    "matplotlib",
    "numpy",
    "optuna",
    "sklearn",
    "threadpoolctl",
    "tomlkit",
    "tqdm",
)


def need_extra(modules: tuple[str, ...] = _NEEDED) -> None:
    """Refuse with the command that helps if the extra is not installed.

    Parameters
    ----------
    modules : tuple of str
        What has to be there.

    Raises
    ------
    ModelError
        If one is missing.

    Thread safety
    -------------
    Reads the import system only.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"needs {', '.join(missing)}, which the extra `train` has: "
            "pip install 'pymlk[train]'"
        )
