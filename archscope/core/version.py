"""The version of the installed distribution, as its metadata says it."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "archscope-torch"  # the name on PyPI; the import and the command are `archscope`

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # a checkout on the path that nobody has installed
    __version__ = "0+unknown"
