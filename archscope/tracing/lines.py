"""File and line of the user's code."""

import sys
from pathlib import Path
from types import FrameType


def user_line(error: BaseException) -> str:
    """File and line of the innermost frame that is neither torch's nor archscope's."""
    found, at = "", error.__traceback__
    while at is not None:
        found = _line(at.tb_frame, at.tb_lineno) or found
        at = at.tb_next
    return found


def line_now() -> str:
    """The same of the code that runs at this moment."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_back is not None:
        if found := _line(frame, frame.f_lineno):
            return found
        frame = frame.f_back
    return ""


def _line(frame: FrameType, number: int) -> str:
    here, torch_home = Path(__file__).parent.parent, Path(str(sys.modules["torch"].__file__)).parent
    code = Path(frame.f_code.co_filename)
    if (
        code.is_relative_to(torch_home)
        or code.name == "_meta_registrations.py"
        or (code.is_relative_to(here) and code.parent.name != "zoo")
    ):
        return ""
    return f"{code.name if code.is_relative_to(here) else _near(code)}:{number}"


def _near(path: Path) -> Path:
    """A path from the working folder, where it lies below that."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):
        return path
