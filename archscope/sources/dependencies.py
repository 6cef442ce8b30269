"""The state of what a record depends on: files, folders and environment variables, as digests of their content."""

import functools
import hashlib
import os
import stat
import sys
import sysconfig

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # archscope's own files
File = tuple[str, str, str]  # kind ("file", "folder", "importable", "stat", "variable"), its name, a digest


# ------------------------------------------------------------------------------------------------ where files are


@functools.cache
def installed_folders() -> tuple[str, ...]:
    """The folders of the standard library and of installed packages."""
    import site

    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {os.path.dirname(os.__file__), *getattr(site, "getsitepackages", list)(), site.getusersitepackages()}
    found |= {path for path in sys.path if path.endswith(("site-packages", "dist-packages", ".zip"))}
    spellings = {spelled for path in found if path for spelled in (os.path.abspath(path), os.path.realpath(path))}
    return tuple(path + os.sep for path in sorted(spellings))


@functools.cache
def is_installed(path: str) -> bool:
    """Whether a file belongs to Python, an installed package or archscope itself."""
    return (
        path.startswith(installed_folders())
        or path.startswith(HOME + os.sep)
        or f"{path}{os.sep}" in installed_folders()
    )


def file_of(module: object) -> str:
    """The file of a module, empty where it has none. Asking one of SpeechBrain for an attribute would load it."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return file if isinstance(file, str) else ""


def user_files() -> dict[str, str]:
    """The files of the modules that are loaded and not installed, by module. `__main__` is left out."""
    return dict(_user_files(len(sys.modules), next(reversed(sys.modules))))


@functools.lru_cache(maxsize=1)
def _user_files(number: int, last: str) -> dict[str, str]:
    """Looked up once for as long as nothing is imported."""
    found = {}
    for name, module in list(sys.modules.items()):
        file = file_of(module)
        if name in ("__main__", "__mp_main__") or not os.path.isabs(file):
            continue
        if not is_installed(file):
            found[name] = file
    return found


# ------------------------------------------------------------------------------------------------------- digests


def digest_of(kind: str, name: str) -> str:
    """The state of a dependency as it is now; "" where there is none. Raises OSError as it comes."""
    try:
        if kind == "variable":
            return _digest(os.environ[name].encode(errors="surrogateescape")) if name in os.environ else ""
        if kind == "environment":
            return _digest(repr(sorted(os.environ.items())).encode(errors="surrogateescape"))
        if kind == "file":
            with open(name, "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return "not a file"
                return _digest(stream.read())
        if kind == "folder":
            return _digest("\0".join(sorted(os.listdir(name))).encode(errors="surrogateescape"))
        if kind == "importable":
            return _digest("\0".join(_importable(name)).encode(errors="surrogateescape"))
        if kind in ("stat", "exact stat"):
            found = _STAT(name)
            parts = [stat.S_IFMT(found.st_mode), found.st_size if stat.S_ISREG(found.st_mode) else 0]
            if kind == "exact stat":
                parts += [found.st_mtime_ns, found.st_mode]
            return _digest(repr(parts).encode())
        if kind == "link":
            return _digest((os.readlink(name) if os.path.islink(name) else "").encode(errors="surrogateescape"))
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"cannot be read: {error.errno}"
    return "unknown"


_STAT = os.stat


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _importable(folder: str) -> list[str]:
    """What an import can find in a folder before it looks further: files of Python, and packages."""
    with os.scandir(folder) as entries:
        return sorted(
            e.name
            for e in entries
            if e.name.endswith((".py", ".pyc", ".so", ".pyd"))
            or (e.name.isidentifier() and e.is_dir() and os.path.isfile(os.path.join(e.path, "__init__.py")))
        )
