"""Reading files within limits, and writing them whole or not at all."""

import errno
import os
import stat
import sys
from contextlib import suppress


def content(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a file of at most `most` bytes; "~" is expanded, and "-" is what is piped in.

    Raises OSError as it comes, and for a longer file and for a pipe or a device, where reading may never end.
    """
    if os.fspath(path) in ("-", "/dev/stdin"):
        return _piped(most)
    full = os.path.expanduser(path)
    if "\0" in os.fspath(full):
        raise OSError(errno.EINVAL, "no file has such a name")
    plain = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # to open a pipe waits for its writer
    with open(os.open(full, os.O_RDONLY | plain), "rb") as stream:
        about = os.fstat(stream.fileno())
        if stat.S_ISDIR(about.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
        data = stream.read(most + 1) if about.st_size <= most else b""
    if max(about.st_size, len(data)) > most:
        raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, and {most:,} are the most")
    return data


def _piped(most: int) -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise OSError(errno.EINVAL, "nothing is piped in")
    data = sys.stdin.buffer.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")
    return data


def text(path: str | os.PathLike[str], most: int, encoding: str = "utf-8") -> str:
    """The text of a file, each line ended by a line feed. Raises UnicodeDecodeError, and what `content` raises."""
    return content(path, most).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


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
        with suppress(OSError):
            os.unlink(part)
        raise
