"""The section about tuning."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    PositiveFloat,
    PositiveInt,
    Section,
    Seed,
)

_PAIR = Field(min_length=2, max_length=2)
IntRange = Annotated[list[PositiveInt], _PAIR]
PositiveRange = Annotated[list[PositiveFloat], _PAIR]
DecayRange = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], _PAIR]
ShareRange = Annotated[list[Annotated[float, Field(ge=0, le=1)]], _PAIR]
RatingWeight = Literal["none", "linear", "log"]
RatingWeights = Annotated[list[RatingWeight], Field(min_length=1)]
_ALL_WEIGHTS: list[RatingWeight] = ["none", "log", "linear"]


class TuningRanges(Section):
    """Which hyperparameters are tuned, each within the lowest and the highest value of a list.

    Each is called as in `training`. null: it stays as `training` says. What has no effect with the
    configured loss or learning schedule is not tuned.
    """

    no_components: IntRange | None = Field(default=[64, 256])
    """Drawn evenly on a logarithmic scale. Scoring takes time and memory in proportion to it."""
    learning_rate: PositiveRange | None = Field(default=[0.005, 0.1])
    """Drawn evenly on a logarithmic scale. Not tuned with `adadelta`."""
    item_alpha: PositiveRange | None = Field(default=[1e-6, 1e-2])
    """Drawn evenly on a logarithmic scale."""
    user_alpha: PositiveRange | None = Field(default=[1e-6, 1e-2])
    """Drawn evenly on a logarithmic scale."""
    max_sampled: IntRange | None = Field(default=[10, 100])
    """Drawn evenly on a logarithmic scale. Tuned only with `warp` and `warp-kos`."""
    ema_decay: DecayRange | None = Field(default=[0.8, 0.98])
    """Drawn evenly."""
    user_exponent: ShareRange | None = Field(default=[0.0, 1.0])
    """Of `training.sample_weights`. Drawn evenly. Not tuned with `warp-kos`."""
    rating: RatingWeights | None = Field(default=_ALL_WEIGHTS)
    """Of `training.sample_weights`: the values that are tried. Not tuned with `warp-kos`, where all
    ratings are the same, or where a rating is 0 or less: such a pair is positive with one value and
    not with another, so trials could not be compared."""

    def contradictions(self) -> Iterator[str]:
        """Want the lower end of a range first, and each rating weight once."""
        for name in type(self).model_fields:
            found = getattr(self, name)
            if name == "rating":
                if found is not None and len(set(found)) < len(found):
                    yield f"rating: found {found}, expected each value once"
            elif found is not None and not found[0] < found[1]:
                yield (
                    f"{name}: found {found}, expected a lower and then a higher number; to leave "
                    f"it as training says, set it to null"
                )


class Tuning(Section):
    """How `recsys tune` looks for hyperparameters.

    The first trial is `training` as it is configured. A trial is judged like a training with early
    stopping, on the same held-out pairs. It is given up when it is worse than most others were
    after as many epochs.
    """

    minutes: PositiveFloat | None = 30.0
    """How long the trials may take together, those of earlier attempts included. The first trial is
    always completed, another one is ended after its epoch. null: there is no limit."""
    trials: PositiveInt | None = None
    """How many trials there are, those of earlier attempts included, and those that were given up.
    null: there is no limit."""
    seed: Seed = 42
    """The seed of what is tried. The seed of the trainings is `training.seed`."""
    ranges: TuningRanges = TuningRanges()

    def contradictions(self) -> Iterator[str]:
        """Want an end."""
        if self.minutes is None and self.trials is None:
            yield "minutes: found null, and trials null as well, expected a limit; set one of them"
