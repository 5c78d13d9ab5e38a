"""The sections about training."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from recsys.config.sections.types import (
    FeatureName,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    Seed,
)

RANKING_LOSSES = ("warp", "bpr", "warp-kos")


class Memory(Section):
    """How much memory the driver may use."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The job takes at most this share of the driver's memory: where all users need more, it trains
    on some of them, or refuses (`training.sample_users`). The driver's memory is the limit of the
    control group or the machine's memory, whichever is smaller, minus the JVM's heap. Lower it if
    other programs need memory on the same machine."""


class SampleWeights(Section):
    """How much each pair counts. A pair's weight is the product of these, scaled to a mean of 1."""

    rating: Literal["none", "linear", "log", "capped"] = "log"
    """The weight of a positive pair by its rating (or sum, or count), which must not be below 0:
    `linear`, `log` (of 1 + rating), `capped`, or `none` for equal weights. A rating of 0 has no
    weight, so unless this is `none`, such a pair is not positive; it still counts as seen.
    Negatives get the mean weight of the positives."""
    cap: PositiveFloat | None = None
    """For `capped`: the largest weight that a rating gives."""
    half_life_days: PositiveFloat | None = None
    """A pair that is this many days older counts half as much. Set it if tastes change. Ages count
    back from the end of the run date (UTC); later pairs count as new. Users and items all of whose
    pairs are too old to have a weight are not in the model. null: age has no effect."""
    user_exponent: Annotated[float, Field(ge=0, le=1)] = 0.5
    """From 0 to 1. Each pair of a user with n pairs counts n ** -user_exponent, so that users with
    long histories do not outweigh the others; in the second view `ease` as well. 0: all pairs count
    the same. 1: all users do."""

    @property
    def by_rating(self) -> bool:
        """Whether ratings are weights, so that a rating of 0 says nothing."""
        return self.rating != "none"

    @property
    def without_effect(self) -> bool:
        """Whether every pair counts the same."""
        equal = (self.rating, self.half_life_days, self.user_exponent)
        return equal == ("none", None, 0.0)

    def contradictions(self) -> Iterator[str]:
        """Want a cap with `capped`, and only there."""
        if (self.rating == "capped") != (self.cap is not None):
            found = "null" if self.cap is None else self.cap
            yield (
                f"cap: found {found} with rating {self.rating}, expected a number with rating "
                "capped, and null otherwise"
            )


class EarlyStopping(Section):
    """How the best epoch is found. null: train for `training.epochs`, in half the time or less.

    A part of the pairs is held out. Training stops when lists for that part get no better, and
    keeps the best epoch.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share of each item's positive pairs that is held out."""
    k: PositiveInt = 10
    """The length of the lists that are judged. The metric is nDCG."""
    every: PositiveInt = 2
    """The number of epochs from one judgement to the next. The last epoch is always judged. Larger
    numbers save time."""
    smoothing: PositiveInt = 3
    """The number of successive values whose mean is compared, so that a single lucky value does not
    decide."""
    patience: PositiveInt = 10
    """Stop after this many epochs without a better value. A small number may stop at an early
    dip."""
    max_users: PositiveInt = 5000
    """The largest number of users whose lists are judged, drawn by the seed. With few users the
    curve is rough, and the kept epoch may not be the best."""
    max_pairs: PositiveInt | None = 10_000_000
    """The largest number of pairs to look for the best epoch on. Where there are more, whole users
    are drawn by the seed, so that large data is not trained on twice. null: all pairs."""
    refit: bool = True
    """Train again on all pairs, for as many epochs as were best and some more, because there are
    more pairs (a quarter more epochs for a share of 0.2). false: keep the model of the best epoch,
    which has not seen the held-out pairs."""


class Member(Section):
    """One of several trainings, and what is different in it. null: as in `training`."""

    seed: Seed | None = None
    """The seed of this training."""
    loss: Literal["warp", "bpr", "warp-kos"] | None = None
    """Its loss."""
    no_components: PositiveInt | None = None
    """The size of its embeddings."""


class Training(Section):
    """The hyperparameters of LightFM, under its own names, and how it is run."""

    loss: Literal["warp", "bpr", "warp-kos", "logistic"] = "warp"
    """The loss that training minimizes. `warp` looks for negatives that score too high, and so
    improves the top of the lists. `bpr` takes negatives at random. `warp-kos` is `warp` with the
    k-th best of several positives; it takes no sample weights. `logistic` tells positives from
    negatives; only its lists have probabilities."""
    no_components: PositiveInt = 128
    """The size of the embeddings. Larger ones need more data, memory and time."""
    epochs: PositiveInt = 80
    """The number of epochs. With early stopping, the largest number; the training on all pairs that
    follows may take more, because there are more pairs."""
    start: Literal["auto", "random", "spectral"] = "random"
    """The embeddings that training begins with. `random`: small random ones. `spectral`: the
    directions that the pairs have beyond chance, from a truncated singular value decomposition,
    which takes about as long as an epoch. It makes training several times shorter where items have
    about as many pairs each, and may end a little lower, or diverge, elsewhere. `auto`: `spectral`
    where its first epoch is clearly better than popular items on the held-out pairs, and `random`
    otherwise. It is `random` without early stopping, for other losses than `warp`, and where
    LightFM learns with features."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """The model is the exponential moving average of its states after each epoch. A state counts
    this many times as much as the one an epoch later. 0: the model is the last state."""
    ema_growth: NonNegativeFloat = 8.0
    """How the average begins. After n epochs the states so far count at most
    n / (n + `ema_growth`) times as much as the next one. So the average keeps up with the first
    epochs, in which each state is much better than the one before. 0: `ema_decay` counts from the
    first epoch on."""
    learning_schedule: Literal["adagrad", "adadelta"] = "adagrad"
    """The rule that sets the size of the steps: `adagrad`, with `learning_rate`, or `adadelta`,
    with `rho` and `epsilon`."""
    learning_rate: PositiveFloat = 0.03
    """For `adagrad`: the size of the first steps. For `warp` 0.02 to 0.05 work well, and 0.25 ruins
    the model. For `bpr` 0.02 is better. For `logistic` with drawn negatives 0.1 works well; with
    0.02 early stopping ends the training before it has learned much."""
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """For `adadelta`: the coefficient of its moving averages. Larger values remember more steps."""
    epsilon: PositiveFloat = 1e-6
    """For `adadelta`: a small number that keeps it from dividing by zero."""
    item_alpha: NonNegativeFloat | Literal["auto"] = "auto"
    """The L2 penalty on item embeddings. LightFM applies it at each step, so its effect grows with
    the number of pairs. `auto`: with `warp` and `warp-kos` what suits the numbers of pairs, users
    and items; with other losses 1e-5. The model's record has the number. Raise it if the model
    overfits. With `warp` and `warp-kos` a number is meant for all pairs: a search on a part of
    them, before a second training, uses one for as strong an effect."""
    user_alpha: NonNegativeFloat | Literal["auto"] = "auto"
    """Likewise on user embeddings."""
    max_sampled: PositiveInt = 50
    """For `warp` and `warp-kos`: the largest number of negatives that are tried for each positive.
    More of them help on sparse data and take more time."""
    negatives_per_positive: PositiveInt = 5
    """For `logistic` on data without negatives: the number of items that are drawn as negatives for
    each positive pair, anew in each epoch, from the items that the user has no pair with. More of
    them take more time and memory."""
    k: PositiveInt = 5
    """For `warp-kos`: of `n` sampled positives, the k-th best one is used."""
    n: PositiveInt = 10
    """For `warp-kos`: the number of sampled positives."""
    sample_weights: SampleWeights = SampleWeights()
    early_stopping: EarlyStopping | None = EarlyStopping()
    user_vectors: Literal["auto", "trained", "folded_in"] = "auto"
    """The vectors of users who were trained. `trained`: those that LightFM trained. `folded_in`:
    those that the fold-in map makes from the users' items, as for new users. `auto`: these, or a
    mixture, as the held-out pairs of early stopping say. It makes no difference to the time that
    lists take. With `loss` `logistic`, `auto` is `trained`."""
    members: dict[FeatureName, Member] = Field(default={})
    """Several trainings instead of one, by names that you choose, such as `a: {seed: 1}` and
    `b: {seed: 2}`. Their embeddings are put side by side, so that a score is the sum of theirs.
    Lists get better, and training and scoring take as many times as long."""
    second_view: Literal["auto", "none", "ease", "als"] = "auto"
    """Factors of a second, linear model of the items beside LightFM's. `ease`: EASE in a low-rank
    form. `als`: implicit-feedback ALS, for data where wide factors pay. `auto`: what is better on
    the held-out pairs of early stopping, or none if nothing is clearly better. The item matrix gets
    as much wider. With `loss` `logistic`, or without early stopping, `auto` is `none`."""
    second_view_rank: PositiveInt = 512
    """The largest number of these factors. ALS is tried with 128 and with this number, EASE with at
    most 128. More of them take more time and memory, where lists are made as well."""
    max_minutes: PositiveFloat | None = None
    """The time for the whole training: search, second view, training on all pairs, fold-in. The job
    plans after two epochs, gives up what does not fit, and says what that was. It takes at most one
    epoch longer. The same input may then give another model, as the machine's speed decides. null:
    as long as it takes."""
    resumable: bool = False
    """Whether the model keeps what LightFM needs to go on, so that `recsys train --from MODEL` can
    train for `epochs_from` epochs instead of all. It is four times as large as the vectors."""
    epochs_from: Annotated[int, Field(ge=0)] = 16
    """With `--from`: for how many epochs to go on, on all pairs, without looking for the best
    epoch."""
    sample_users: Literal["auto", "refuse"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    """How many of the users to train on. `auto`: all, or the largest share (0.75, 0.5, 0.35, 0.25,
    0.15, 0.1, 0.05, 0.02 or 0.01) that fits: into what `memory.max_share` allows, with ids within
    `spark.driver.maxResultSize`, and no more pairs than LightFM can number. The log and the record
    name the first of these limits that all users exceed, and what to change. `refuse`: all, and the
    job ends where they do not fit. A number: this share. Each item that has enough pairs keeps
    some, unless no sample fits so. Users who are left out are folded in from all of their pairs
    where lists are made. `recsys tune` takes `auto` as `refuse`."""
    threads: PositiveInt | None = None
    """The number of CPU threads. null: all that the driver has. With one thread, the same input and
    seed give the same model, bit for bit. More threads are faster, and the
    model is a little different each time."""
    seed: Seed = 42
    """The seed of everything that training draws."""
    max_embedding_norm: PositiveFloat = 100.0
    """The job stops when an embedding is longer than this, because the model has diverged. Good
    models stay below 15, diverged ones reach thousands."""

    @property
    def gives_probabilities(self) -> bool:
        """Whether a score is a logit, which must not be mixed with others."""
        return self.loss == "logistic"

    @property
    def widest(self) -> int:
        """The largest number of components that the model may have."""
        own = sum(one.no_components for one in self.each())
        second = self.second_view != "none" and self.early_stopping is not None
        if self.gives_probabilities or not second:
            return own
        return own + (
            min(self.second_view_rank, 128) if self.second_view == "ease" else self.second_view_rank
        )

    def each(self) -> list["Training"]:
        """Return the settings of each training that there is to do."""
        if not self.members:
            return [self]
        alone = self.model_copy(update={"members": {}})
        chosen = (one for _, one in sorted(self.members.items()))
        return [alone.model_copy(update=one.model_dump(exclude_none=True)) for one in chosen]

    def contradictions(self) -> Iterator[str]:
        """Refuse weights that the loss does not take, and choices that nothing can decide."""
        if self.gives_probabilities:
            for name, wrong in (
                ("user_vectors", self.user_vectors == "folded_in"),
                ("members", bool(self.members)),
                ("second_view", self.second_view in ("ease", "als")),
            ):
                if wrong:
                    yield (
                        f"{name}: found {getattr(self, name)!r} with loss logistic, whose scores "
                        "are probabilities and cannot be mixed with others; leave it out, or "
                        "choose training.loss warp, bpr or warp-kos"
                    )
        if self.second_view in ("ease", "als") and self.early_stopping is None:
            yield (
                f"second_view: found {self.second_view} without early_stopping, expected held-out "
                "pairs to choose its weight by; set early_stopping, or second_view to none"
            )
        if self.user_vectors == "folded_in" and self.early_stopping is None:
            yield (
                "user_vectors: found folded_in without early_stopping, expected held-out pairs to "
                "choose the map by; set early_stopping, or user_vectors to trained"
            )
        if self.resumable and self.members:
            yield (
                "resumable: found true with members, and only one training can go on; set it to "
                "false, or leave members out"
            )
        if self.resumable and self.early_stopping is not None and not self.early_stopping.refit:
            yield (
                "resumable: found true with early_stopping.refit false, which keeps an earlier "
                "epoch than the last, from which LightFM cannot go on; set refit to true, or "
                "resumable to false"
            )
        kos = any(one.loss == "warp-kos" for one in self.each())
        if kos and not self.sample_weights.without_effect:
            yield (
                "sample_weights: LightFM's warp-kos takes no sample weights; set rating to none, "
                "half_life_days to null and user_exponent to 0, or choose training.loss warp, bpr "
                "or logistic"
            )
