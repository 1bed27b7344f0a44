"""Every error that a user can cause. A message says what is wrong, where, and how to mend it, in one line."""


class EgohoiError(Exception):
    """Base of all errors a user can cause: the command line prints it as one line and exits with status 2."""


class BadImage(EgohoiError):
    """A picture that cannot be read or is outside the supported sizes."""


class BadBox(EgohoiError, ValueError):
    """A box that is not xyxy, is empty, or lies outside its picture."""


class BadMask(EgohoiError, ValueError):
    """A mask whose size or encoding does not fit."""


class BadQuery(EgohoiError, ValueError):
    """A question that is empty, too long, or asks for what the model cannot do."""


class BadRecord(EgohoiError, ValueError):
    """A record of a data set that breaks its format; the message names file and record."""


class BadData(EgohoiError):
    """A data set folder or file that is missing, incomplete or of another kind."""


class BadWeights(EgohoiError):
    """Weights that are missing, unexpected, of another shape, or not safe to open."""


class BadConfig(EgohoiError, ValueError):
    """A configuration with an unknown key or a value out of range."""


class BadPredictions(EgohoiError):
    """Predictions that do not belong to the truth: missing, doubled, extra, or of another data set."""


class MissingExtra(EgohoiError, ImportError):
    """An optional dependency that the chosen action needs; the message names the extra to install."""


def need(module: str, extra: str):
    """Import an optional module, or raise MissingExtra with the command that installs it.

    module: dotted module name; extra: name of the extra of this package that provides it.
    Returns the imported module.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"this needs the Python package '{module.split('.')[0]}', which is not installed: pip install 'egohoi[{extra}]'"
        ) from error
