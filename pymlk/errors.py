# SPDX-License-Identifier: MIT
"""The exceptions of pymlk; each one is also the builtin a caller would expect.

All inherit :class:`MlkError` first, so ``except MlkError`` catches whatever
pymlk raises on purpose, and the builtin second, so code that knows nothing of
pymlk still does the right thing.
"""


class MlkError(Exception):
    """Base class of every exception that pymlk raises on purpose."""


class ModelError(MlkError, ValueError):
    """A model or program cannot be used: malformed, truncated, float-only, too new."""


class UnsupportedOpError(ModelError, NotImplementedError):
    """A valid model has an operator (or a form of it) that the engine lacks.

    Attributes
    ----------
    operators : tuple of str
        Names of the missing operators, each with its place in the model.
    """

    def __init__(self, message: str, operators: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.operators = operators


class AttrError(MlkError, OSError):
    """A sysfs/procfs attribute cannot be read or written; carries errno and path."""


class FieldSyntaxError(MlkError, ValueError):
    """A field is not of the form ``PATH[SELECTOR]``."""


class PolicyError(MlkError, ValueError):
    """A policy file is wrong: the text names file, key, what was found and expected."""


class TrainError(MlkError, ValueError):
    """A model cannot be trained or judged on this data; the text says what to do."""


class JournalError(MlkError, OSError):
    """The knob journal cannot be written or belongs to a run that is still alive."""


class ProxyError(MlkError, OSError):
    """A kernel's model cannot be reached or refuses; carries errno and path.

    ``ENODEV`` means that the kernel's client is gone: open the model anew when it is
    registered again.
    """


class RecordError(MlkError, ValueError):
    """A log of decisions is in use, has a wrong size, or is none."""


class DatasetError(MlkError, ValueError):
    """A dataset is damaged, another policy's, in use, or none; the text says where."""


class StateError(MlkError, OSError):
    """What was learnt cannot be kept or forgotten; carries errno and path."""
