"""The checks of a preflight, each with what was found, its limit and what to change.

Every command makes them before its first expensive step and is refused by those that fail.
`recsys doctor` prints them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from recsys.errors import Complaints, RecsysError

State = Literal["ok", "refused", "warning", "unknown"]


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: what was looked at.
        found: what is there or is needed.
        limit: what it may be; empty where there is no number.
        state: `ok`; `refused`, so that no command starts; `warning`, where a run would go on and
            may fail later (an estimate, or a limit that depends on the cluster); `unknown`.
        change: what to change; empty where nothing has to be.
        exit_status: of a check that is not fulfilled, else 0.
    """

    name: str
    found: str
    limit: str = ""
    state: State = "ok"
    change: str = ""
    exit_status: int = 0

    def plain(self) -> dict[str, str | int]:
        """Return the check as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the check as one line of a log."""
        limit = f", and the limit is {self.limit}" if self.limit else ""
        return f"{self.name}: {self.found}{limit}" + (f"; {self.change}" if self.change else "")


class Checks(Complaints):
    """Complaints, and beside them everything that was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Check] = []

    @contextmanager
    def looking(self, name: str, found: str = "can be used") -> Iterator[list[str]]:
        """Collect an error that is raised inside, and note what was looked at.

        Args:
            name: what is looked at.
            found: what to say where nothing is wrong. What is put into the list that is given
                instead is said in its place.
        """
        before, told = len(self.errors), list[str]()
        with self.collecting():
            yield told
        if len(self.errors) == before:
            self.made.append(Check(name, ", ".join(told) or found))
        else:
            self._note(name, self.errors[-1])

    def add(self, check: Check, error: RecsysError | None = None) -> None:
        """Note a check, with the error that refuses the run where it is refused."""
        self.made.append(check)
        if error is not None:
            self.errors.append(error)

    def _note(self, name: str, error: RecsysError) -> None:
        found, _, change = str(error).rpartition("; ")
        if not found:
            found, change = change, ""
        self.made.append(Check(name, found, "", "refused", change, error.exit_code))
