"""What a run reads besides its arguments: files, folders, environment variables, and what nobody can know later.

    with watched() as seen:
        …build a model and run it…
    seen.finish()
    seen.dependencies     what has to be the same for the record to be the same
    seen.unknown          why the record cannot be kept, one sentence each; empty where it can

Python reports `open`, `import` and a few more as audit events. What it does not report is replaced while the run lasts:
`os.stat`, the mapping of `os.environ`, `sys.argv`, the clock. Installed packages count by their versions, and only
what a user's own code does makes a run unknown; that its files are read is seen wherever it happens.
"""

import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from typing import Any

from archscope.sources.dependencies import HOME, File, digest_of, file_of, is_installed, user_files

READS, LISTS = ("open",), ("os.listdir", "os.scandir")
OUTSIDE = {  # audit events of what no later process can compare
    "socket.connect": "the network", "socket.getaddrinfo": "the network", "socket.bind": "the network",
    "socket.gethostname": "the name of the machine", "socket.gethostbyname": "the network",
    "urllib.Request": "the network", "subprocess.Popen": "another program", "os.system": "another program",
    "os.posix_spawn": "another program", "os.exec": "another program", "os.fork": "another process",
    "os.forkpty": "another process", "sqlite3.connect": "a database", "builtins.input": "the keyboard",
    "ctypes.dlopen": "native code", "ctypes.dlsym": "native code", "winreg.OpenKey": "the registry",
}  # fmt: skip
CLOCK = "time time_ns perf_counter perf_counter_ns monotonic monotonic_ns localtime gmtime ctime process_time".split()
MACHINE = "urandom getpid cpu_count getrandom getloadavg sched_getaffinity process_cpu_count".split()
# names in a user's code of what cannot be seen: clock and random numbers in C, and readers of files in native code
NAMES = {
    "now": "the clock", "today": "the clock", "utcnow": "the clock", "uuid1": "random numbers",
    "uuid4": "random numbers", "Random": "random numbers", "SystemRandom": "random numbers",
    "default_rng": "random numbers", "RandomState": "random numbers", "SeedSequence": "random numbers",
    "token_bytes": "random numbers", "token_hex": "random numbers", "randbelow": "random numbers",
    "environb": "the environment in bytes", "getenvb": "the environment in bytes",
    "from_pretrained": "files in native code", "load_file": "files in native code",
    "safe_open": "files in native code", "from_file": "files in native code", "imread": "files in native code",
    "load_library": "files in native code", "stdin": "the standard input", "get_device_properties": "the machine",
    "mem_get_info": "the machine", "get_device_name": "the machine", "PyTorchFileReader": "files in native code",
}  # fmt: skip
CHOICES = {"nonzero", "argwhere", "where", "masked_select", "unique", "multinomial", "bincount"}  # of random values
# packages with native code that read files through Python only, where the names above do not occur
KNOWN = set(
    "torch torchvision torchgen functorch numpy scipy timm transformers tokenizers safetensors regex yaml".split()
)
KNOWN |= set("_yaml msgspec PIL pandas markupsafe psutil triton cuda networkx sympy mpmath charset_normalizer".split())
KNOWN |= set("hf_xet pydantic_core rpds jinja2 google matplotlib kiwisolver contourpy fontTools sklearn".split())
KNOWN |= set("cython_runtime einops omegaconf simplejson wrapt frozenlist multidict yarl aiohttp propcache".split())

VARIABLES = ("TORCH", "PYTORCH", "TIMM_", "TRANSFORMERS_", "HF_", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED")


# ------------------------------------------------------------------------------------------------------ watching


class Dependencies:
    """What was seen so far. own: the package that the model comes from, whose code is the user's too."""

    def __init__(self, own: str = "") -> None:
        self.own = f"{os.sep}{own}{os.sep}" if own else ""
        self.names: dict[tuple[str, str], None] = {}  # kind and name of each dependency
        self.written: set[str] = set()  # variables that the run sets itself
        self.reasons: dict[str, None] = {}
        self.draws = self.reads = False
        self.begun = time.time_ns()
        self.dependencies: list[File] = []
        self.random = _random_states()

    def follow(self, earlier: "Dependencies") -> None:
        """What a run before this one saw may have entered modules that both use."""
        self.names |= earlier.names
        self.written |= earlier.written
        self.reasons |= earlier.reasons
        self.draws, self.reads, self.begun, self.random = earlier.draws, earlier.reads, earlier.begun, earlier.random

    @property
    def unknown(self) -> list[str]:
        return list(self.reasons)

    def add(self, kind: str, path: Any, who: str) -> None:
        """A dependency on a file or a folder; those of installed packages count by their versions. who: `caller`."""
        if isinstance(path, int) or path is None:
            return
        full = os.path.abspath(os.fsdecode(path))
        if is_installed(full) or full.startswith(("/proc/self/fd", "/dev/null")):
            return
        if full.startswith(("/proc/", "/sys/")):
            if who == "user":
                self.refuse(f"it asks for the machine ({full})")
            return
        if kind == "file" and os.path.basename(os.path.dirname(full)) == "__pycache__":
            folder, name = os.path.split(os.path.dirname(full))[0], os.path.basename(full)
            full = os.path.join(folder, name.partition(".")[0] + ".py")
        self.names[kind, full] = None

    def refuse(self, what: str) -> None:
        self.reasons[what] = None

    def is_user(self, file: str) -> bool:
        """Whether code of this file is the user's own."""
        if file.startswith("<"):
            return False
        return not is_installed(os.path.abspath(file)) or bool(self.own) and self.own in file

    def asks(self, depth: int) -> str:
        """The line of the user's code that an event comes from, "" where it comes from other code alone.

        What a package does while it is imported is its own affair.
        """
        frame: Any = sys._getframe(depth)
        ours = False
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith("<frozen importlib"):
                return ""
            if self.is_user(file):
                if frame.f_globals.get("__name__") != "__main__":
                    return f"{os.path.basename(file)}:{frame.f_lineno}"
            elif file.startswith(HOME):
                ours = True
            frame = frame.f_back
        return "" if ours else "a thread"

    def caller(self, depth: int) -> str:
        """Whose code called: "user", "archscope", "package"; "finder" for the import system that looks for a module,
        "import" for a package that is just being imported."""
        frame: Any = sys._getframe(depth)
        found = ""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith("<frozen importlib"):
                return "import" if found else "finder"
            if self.is_user(file):
                return found or "user"
            if file.startswith(HOME):
                return found or "archscope"
            if "site-packages" in file or "dist-packages" in file:
                found = "package"
            frame = frame.f_back
        return found or "user"

    # ------------------------------------------------------------------------------------------ when it is over

    def finish(self) -> None:
        """Take the digests, and look at what can only be known afterwards."""
        modules = user_files()
        if modules:  # another file of the same name, or in an earlier folder, would be imported instead
            for folder in {*sys.path, *map(os.path.dirname, modules.values())}:
                self.add("importable", folder or ".", "user")
        for name, file in modules.items():
            self.add("file", file, "user")
            self._scan(name, file)
        for name in _native():
            if name not in KNOWN and name not in sys.stdlib_module_names and self._loads(name):
                self.refuse(f"{name} is native code, which may read files")
        if any(_random_states()[name] != state for name, state in self.random.items()):
            self.refuse("it draws random numbers of Python or NumPy")
        if self.draws and self.reads:
            self.refuse("it reads the values of random tensors")
        for kind, name in self.names:
            state = digest_of(kind, name)
            if state == "not a file" or state.startswith("cannot"):
                self.refuse(f"it reads {name}, which is no plain file")
            if kind == "file" and state:
                found = os.stat(name)
                if max(found.st_mtime_ns, found.st_ctime_ns) >= self.begun:
                    self.refuse(f"{name} was changed while the model ran")
            self.dependencies.append((kind, name, state))

    def _loads(self, name: str) -> bool:
        return name not in _BEFORE

    def _scan(self, name: str, file: str) -> None:
        """Names in the code of a user's module that say it asks for what cannot be seen."""
        if not file.endswith(".py"):
            self.refuse(f"{os.path.basename(file)} is native code, which may read files")
            return
        try:
            code = _Compiled(name, file).get_code(name)
        except (OSError, SyntaxError, ValueError, ImportError):
            self.refuse(f"{os.path.basename(file)} cannot be read again")
            return
        used = _names_in(code)
        for each in NAMES.keys() & used:
            self.refuse(f"{os.path.basename(file)} asks for {NAMES[each]} ({each})")
        if "jit" in used and "load" in used:
            self.refuse(f"{os.path.basename(file)} asks for files in native code (torch.jit.load)")
        if "numpy.random" not in self.random and "numpy.random" in sys.modules and "random" in used:
            self.refuse(f"{os.path.basename(file)} asks for random numbers (numpy.random)")
        if self.draws and CHOICES & used:
            self.reads = True


class _Compiled(SourceFileLoader):
    """The code of a file, from its `__pycache__` where that is of this source, as for an import. Nothing is written."""

    def set_data(self, path: str, data: Any, **_: Any) -> None:
        pass


def _names_in(code: Any) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            found |= _names_in(constant)
    return found


def _native() -> set[str]:
    """Packages that have native modules loaded. A module is looked at once in the life of a process."""
    for name in sys.modules.keys() - _LOOKED_AT:
        if file_of(sys.modules[name]).endswith((".so", ".pyd")):
            _NATIVE.add(name.partition(".")[0])
        _LOOKED_AT.add(name)
    return _NATIVE


def _random_states() -> dict[str, str]:
    """The states of the generators that are loaded, by module."""
    found = {}
    if "random" in sys.modules:
        found["random"] = repr(hash(sys.modules["random"].getstate()))
    if "numpy.random" in sys.modules:
        found["numpy.random"] = repr(sys.modules["numpy.random"].get_state()[1:3])
    return found


# ------------------------------------------------------------------------------------- what is put in place for it

_active: list[Dependencies] = []  # at most one
_earlier: list[Dependencies] = []  # the one before: what it saw holds for all that follow in this process
OURS: set[str] = set()  # "torch", where archscope itself has loaded it
WATCHED: set[str] = set()  # files of a user's modules that were loaded while they were watched
_NATIVE: set[str] = set()  # packages with native code, as far as modules were looked at
_LOOKED_AT: set[str] = set()
_BEFORE: set[str] = set()  # modules that were loaded before anything was watched


def _on_event(event: str, given: Any) -> None:
    """The audit hook. It stays for the life of the process, as all do, and does nothing unless a run is watched."""
    if not _active:
        return
    seen = _active[0]
    if event == "open":
        path, mode, flags = given
        if isinstance(path, int) or path is None:
            return
        if (
            isinstance(mode, str)
            and set(mode) & set("wax+")
            or isinstance(flags, int)
            and flags & (os.O_WRONLY | os.O_RDWR)
        ):
            full = os.path.abspath(os.fsdecode(path))
            if not is_installed(full) and "__pycache__" not in full and full != os.devnull and (line := seen.asks(2)):
                seen.refuse(f"it writes {full} ({line})")
            return
        if (who := seen.caller(2)) != "import":
            seen.add("file", path, who)
    elif event in LISTS:
        if (who := seen.caller(2)) != "import":
            seen.add("importable" if who == "finder" else "folder", given[0] if given[0] is not None else ".", who)
    elif event in OUTSIDE and (line := seen.asks(2)):
        seen.refuse(f"it asks for {OUTSIDE[event]} ({line})")


@functools.cache
def _listen() -> None:
    sys.addaudithook(_on_event)


def _flagged(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """A function that refuses the run where a user's code calls it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _active:
            frame = sys._getframe(1)
            if _active[0].is_user(frame.f_code.co_filename):
                _active[0].refuse(f"it asks for {what} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})")
        return function(*args, **kwargs)

    return call


def _looked_at(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """`os.stat` and its like: what they say of a file is a dependency."""

    @functools.wraps(function)
    def call(path: Any, *args: Any, **kwargs: Any) -> Any:
        if _active and (who := _active[0].caller(2)) in ("user", "package"):
            exact = kind == "stat" and who == "user" and sys._getframe(1).f_code.co_filename != _GENERIC
            _active[0].add("exact stat" if exact else kind, path, who)
        return function(path, *args, **kwargs)

    return call


_GENERIC = os.path.exists.__code__.co_filename if hasattr(os.path.exists, "__code__") else ""  # exists, isfile, …


class _WatchedEnviron(os._Environ if hasattr(os, "_Environ") else object):  # type: ignore[misc]
    """The environment, which tells what is read of it."""

    def __getitem__(self, key: Any) -> Any:
        _read(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if _active and ("variable", os.fsdecode(key)) not in _active[0].names:
            _active[0].written.add(os.fsdecode(key))
        super().__setitem__(key, value)

    def __iter__(self) -> Iterator[Any]:
        if _active and _active[0].asks(2):
            _active[0].names["environment", ""] = None
        return super().__iter__()

    def copy(self) -> dict[Any, Any]:
        if _active and _active[0].asks(2):
            _active[0].names["environment", ""] = None
        return {self.decodekey(key): self.decodevalue(value) for key, value in self._data.items()}


def _read(key: Any) -> None:
    if not _active:
        return
    name = os.fsdecode(key) if isinstance(key, str | bytes) else ""
    if name and name not in _active[0].written and not name.startswith("ARCHSCOPE_") and not _by_known_package():
        _active[0].names["variable", name] = None


def _by_known_package() -> bool:
    """Whether a package asks whose variables are in the key of every entry (`VARIABLES`), or one that needs none."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        file = frame.f_code.co_filename
        for folder in ("site-packages", "dist-packages"):
            before, found, inside = file.partition(f"{os.sep}{folder}{os.sep}")
            if found:
                return inside.partition(os.sep)[0].removesuffix(".py") in KNOWN
        if not file.startswith("<") and not is_installed(os.path.abspath(file)):
            return False
        frame = frame.f_back
    return False


class _WatchedArgv(list):  # type: ignore[type-arg]
    """`sys.argv`, which tells that it is read."""

    def _tell(self) -> None:
        if _active and (line := _active[0].asks(3)):
            _active[0].refuse(f"it reads the command line ({line})")

    def __getitem__(self, index: Any) -> Any:
        self._tell()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        self._tell()
        return super().__iter__()

    def __len__(self) -> int:
        self._tell()
        return super().__len__()


@contextmanager
def loading() -> Iterator[None]:
    """Within this block it is archscope that loads PyTorch, if it is loaded at all."""
    before = "torch" in sys.modules
    try:
        yield
    finally:
        if not before and "torch" in sys.modules:
            OURS.add("torch")


@contextmanager
def watched(own: str = "") -> Iterator[Dependencies]:
    """Watch what this process reads within the block. own: the package that the model comes from, if it is a user's."""
    with loading():
        import torch

    _listen()
    if not _BEFORE:
        _BEFORE.update(name.partition(".")[0] for name in sys.modules)
    seen = Dependencies(own)
    if _earlier:
        seen.follow(_earlier[0])
    for file in set(user_files().values()) - WATCHED:
        seen.refuse(f"{file} was loaded before")
    patches: list[tuple[Any, str, Any]] = [(time, name, "the clock") for name in CLOCK]
    patches += [(os, name, "the machine") for name in MACHINE]
    patches = [
        (owner, name, _flagged(getattr(owner, name), what)) for owner, name, what in patches if hasattr(owner, name)
    ]
    for name, kind in (("stat", "stat"), ("lstat", "link"), ("access", "exact stat"), ("readlink", "link")):
        patches.append((os, name, _looked_at(getattr(os, name), kind)))
    if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 keeps its own reference
        accessor = vars(pathlib)["_NormalAccessor"]
        patches.append((accessor, "stat", staticmethod(_looked_at(os.stat, "stat"))))
    patches += [(torch.Tensor, name, _value_read(getattr(torch.Tensor, name))) for name in VALUES]
    patches.append((torch, "set_rng_state", _draws(torch.set_rng_state)))
    saved = [(owner, name, owner.__dict__.get(name), name in owner.__dict__) for owner, name, _ in patches]
    drawn = torch.get_rng_state()
    variables, words, bytecode = type(os.environ), sys.argv, sys.dont_write_bytecode
    for owner, name, new in patches:
        setattr(owner, name, new)
    os.environ.__class__ = _WatchedEnviron
    sys.argv = _WatchedArgv(words)
    sys.dont_write_bytecode = True  # bytecode of a file that is edited within the same second would be taken for it
    _active.append(seen)
    try:
        yield seen
    finally:
        _active.clear()
        seen.draws |= not torch.equal(drawn, torch.get_rng_state())
        _earlier[:] = [seen]
        WATCHED.update(user_files().values())
        sys.dont_write_bytecode = bytecode
        if isinstance(sys.argv, _WatchedArgv):
            sys.argv = words
        os.environ.__class__ = variables
        for owner, name, old, had in saved:
            if had:
                setattr(owner, name, old)
            else:
                delattr(owner, name)


VALUES = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "numpy", "__array__", "nonzero")


def _value_read(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if _active:
            _active[0].reads = True
        return function(tensor, *args, **kwargs)

    return call


def _draws(function: Callable[..., Any]) -> Callable[..., Any]:
    """Building and running end by restoring the random generator: whether it had moved."""

    @functools.wraps(function)
    def call(state: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        if _active and not torch.equal(state, torch.get_rng_state()):
            _active[0].draws = True
        return function(state, *args, **kwargs)

    return call
