"""Verdicts: of gates that allow no fault, and of gates that have a limit in the configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from recsys.config.sections import Gates
from recsys.publishing.faults import Fault
from recsys.publishing.manifest import State, Verdict

PASSED: State = "passed"
FAILED: State = "failed"
NOT_APPLIED: State = "not applied"

NONE = "0"


def not_applied(gate: str, allowed: str, reason: str, found: float | None = None) -> Verdict:
    """Say why a gate does not decide."""
    return Verdict(gate=gate, state=NOT_APPLIED, found=found, allowed=allowed, reason=reason)


def faultless(gate: str, faults: Mapping[str, Fault]) -> Verdict:
    """Judge kinds of faults, none of which may be there."""
    wrong = {kind: fault for kind, fault in faults.items() if fault.count}
    if not wrong:
        return Verdict(gate=gate, state=PASSED, found=0, allowed=NONE)
    told = [f"{fault.count:,} {kind}, such as {fault.example}" for kind, fault in wrong.items()]
    return Verdict(
        gate=gate,
        state=FAILED,
        found=sum(fault.count for fault in wrong.values()),
        allowed=NONE,
        reason="; ".join(told),
    )


def few(users: int, settings: Gates, more: str = "") -> str | None:
    """Say that there are too few lists to judge; None where there are enough."""
    if users >= settings.min_users:
        return None
    return f"{users:,} lists made with the model{more}, fewer than gates.min_users"


@dataclass(frozen=True)
class Limit:
    """A gate that the configuration has a number for."""

    gate: str
    key: str
    value: float | None
    most: bool = False

    @property
    def allowed(self) -> str:
        """The limit in words."""
        if self.value is None:
            return "anything"
        return f"at {'most' if self.most else 'least'} {self.value:g} (gates.{self.key})"

    def not_applied(self, reason: str | None, found: float | None = None) -> Verdict:
        """Say why it does not decide; first of all because there is no limit."""
        if self.value is None:
            reason = f"gates.{self.key} is null"
        return not_applied(self.gate, self.allowed, reason or "", found)

    def judge(self, found: float, reason: str) -> Verdict:
        """Compare with the limit; the reason is told where it fails."""
        if self.value is None:
            return self.not_applied(None, found)
        # NaN is never good.
        good = found <= self.value if self.most else found >= self.value
        if math.isfinite(found) and good:
            return Verdict(gate=self.gate, state=PASSED, found=found, allowed=self.allowed)
        return Verdict(
            gate=self.gate,
            state=FAILED,
            found=found if math.isfinite(found) else str(found),
            allowed=self.allowed,
            reason=reason,
        )
