"""The version of the installed distribution, and whether the other project called archscope is installed as well."""

import os
import re
import sys
from contextlib import suppress

DISTRIBUTION = "archscope-torch"  # the name on PyPI; the import and the command are `archscope`

__version__: str  # read when it is asked for, from the name of its .dist-info: importlib.metadata takes 50 ms to import


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = "0+unknown"  # a checkout on the path that nobody has installed
    prefix = f"{DISTRIBUTION.replace('-', '_')}-"
    for folder in sys.path:
        with suppress(OSError):
            names = [name for name in os.listdir(folder or ".") if name.startswith(prefix)]
            if versions := [name[len(prefix) : -len(".dist-info")] for name in names if name.endswith(".dist-info")]:
                found = versions[0]
                break
    return globals().setdefault(name, found)


def torch_version() -> str:
    """The version of the torch that is installed, as `torch.__version__` has it; "" where there is none.

    Read from the text of `torch/version.py`, without an import of torch.
    """
    if "torch" in sys.modules:  # None where its import is forbidden
        return str(getattr(sys.modules["torch"], "__version__", ""))
    for folder in sys.path:
        try:
            with open(os.path.join(folder, "torch", "version.py"), encoding="utf-8") as stream:
                found = re.search(r"^__version__ = ['\"](.+)['\"]", stream.read(), re.M)
        except OSError:
            continue
        return found[1] if found else ""
    return ""


def other_archscope() -> str:
    """One sentence if the unrelated project `archscope` of PyPI is installed too, "" if not.

    Both projects own a folder `archscope/`, so one of them may run the other's files. Only the names in the folders of
    `sys.path` are read, not all metadata: that costs less than a millisecond.
    """
    for folder in dict.fromkeys(sys.path):
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith("archscope-") and name.endswith(".dist-info"):  # ours: archscope_torch-VERSION.dist-info
                try:
                    with open(os.path.join(folder, name, "RECORD"), encoding="utf-8") as record:
                        owns = any(line.startswith("archscope/") for line in record)
                except OSError:
                    continue
                if owns:
                    return (
                        f"the unrelated package archscope is installed in {folder}: it and {DISTRIBUTION} use the same "
                        f"folder; run `pip uninstall archscope`, then `pip install --force-reinstall {DISTRIBUTION}`"
                    )
    return ""
