"""Writing files."""

import os
import stat


def save(text: str | bytes, path: str | os.PathLike[str]) -> None:
    """Write a file whole or not at all; "~" is expanded, a link is followed, an existing file keeps its mode.

    Raises OSError as it comes; the old file is then as it was.
    """
    data = text.encode() if isinstance(text, str) else text
    path = os.path.expanduser(path)
    mode = os.stat(path).st_mode if os.path.exists(path) else None
    if mode is not None and not stat.S_ISREG(mode):  # /dev/stdout, a pipe: nothing to replace; a folder says no
        with open(path, "wb") as stream:
            stream.write(data)
        return
    if mode is not None:
        open(path, "r+b").close()  # a file that may not be written says no
    target = os.path.realpath(path)
    part = os.path.join(os.path.dirname(target), f".archscope-{os.urandom(8).hex()}.part")
    try:
        with open(part, "xb") as new:
            new.write(data)
        if mode is not None:
            os.chmod(part, stat.S_IMODE(mode))
        os.replace(part, target)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
