"""What one kind of check found."""

from typing import NamedTuple


class Tally(NamedTuple):
    """One kind of check. compared: numbers compared. wrong: disagreements, one sentence each. stated: differences whose
    reason is known. missing: what could not be compared, and why."""

    compared: int = 0
    wrong: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def with_another(self, other: "Tally") -> "Tally":
        """Both checks as one."""
        return Tally(
            self.compared + other.compared,
            self.wrong + other.wrong,
            self.stated + other.stated,
            self.missing + other.missing,
        )
