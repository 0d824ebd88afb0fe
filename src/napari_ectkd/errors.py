"""Errors that a user can put right.

A window and a command line show the text of an `EctkdError` alone: it says what
happened, what was expected and what to do. Anything else is a bug and keeps its
traceback. The children are built-ins too, so that library users may catch those.
"""


class EctkdError(Exception):
    """Something the user can put right; its text is all that is shown."""


class ConfigError(EctkdError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class FormatError(EctkdError, ValueError):
    """A file that is broken, or not of the kind that was expected."""


class VoxelSizeError(FormatError):
    """A voxel size that is missing, absurd or unequal along the axes."""


class DataError(EctkdError, ValueError):
    """Readable data that cannot serve: too few labels, an empty list, a bad box."""


class FileMissingError(EctkdError, FileNotFoundError):
    """A file or folder that is not there."""


class DeviceWarning(UserWarning):
    """A device that is here and is not computed on, and why."""


class WriteError(EctkdError, OSError):
    """A file or folder that cannot be written."""
