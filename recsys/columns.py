"""The names of all columns and the schemas of all tables, in one place.

Schemas are DDL text, so that this module needs no Spark; `{user}` and `{item}` stand for the ids'
own types (`int`, `bigint` or `string`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class IdTypes:
    """Spark's names of the types of the ids: `int`, `bigint` or `string`.

    Attributes:
        user: of user ids.
        item: of item ids.
    """

    user: str
    item: str

    def fill(self, schema: str) -> str:
        """Return a schema of this module with the types in place of `{user}` and `{item}`."""
        return schema.format(user=self.user, item=self.item)

    def __str__(self) -> str:
        """Name both in a message."""
        return f"user ids {self.user}, item ids {self.item}"


# Ratings and interactions
USER = "user_id"
ITEM = "item_id"
RATING = "rating"
TIMESTAMP = "timestamp"
LABEL = "label"
ROWS = "rows"
CONFLICTING = "conflicting"
AGE = "age"

# Splits
FOLD = "fold"

# Evaluations
HISTORY = "history"
SEGMENT = "segment"
RELEVANT = "relevant"
OUTSIDE = "outside"
COMPARED_MODEL = "model"
CUT = "k"
LISTED = "items"
METRIC = "metric"
VALUE = "value"
LOW = "low"
HIGH = "high"
N_USERS = "n_users"

# Rejected rows: the values as they were found, as text
REASON = "reason"
RAW_USER = "user"
RAW_ITEM = "item"
RAW_LINE = "line"
RAW_RATING = "raw_rating"
RAW_TIMESTAMP = "raw_timestamp"
MISREAD = "misread"
QUOTED = "quoted"

# Features
ID = "id"
GROUP = "group"
FOUND = "found"
NUMBER = "number"

# Models
USER_INDEX = "user_index"
ITEM_INDEX = "item_index"
EMBEDDING = "embedding"
HISTORY = "history"
BIAS = "bias"
SEEN = "seen"

POSITIVES = "positives"
TRAINED = "trained"
POSITION = "position"
NAME = "name"
N_IDS = "ids"

# Cohorts
REQUESTED = "requested"
TIMES_REQUESTED = "times_requested"
STATUS = "status"
N_ITEMS = "n_items"

LIKED = "liked"
WEIGHT = "weight"
WEIGHTS = "weights"
ALSO_SEEN = "also_seen"
KNOWN = "known"
CANDIDATES = "candidates"
PART = "part"

# Recommendations
RANK = "rank"
SCORE = "score"
PROBABILITY = "probability"
SOURCE = "source"
COLD = "cold"
MODEL_ID = "model_id"
RUN_ID = "run_id"
RUN_DATE = "run_date"
COHORT = "cohort"
GENERATED_AT = "generated_at"

# Titles
TITLE = "title"
IMAGE = "image"
LINK = "link"
TITLE_COLUMNS = (TITLE, IMAGE, LINK)

# Neighbours
NEIGHBOUR = "neighbour_id"
COSINE = "cosine"
KIND = "kind"
FEATURE = "feature"
NEAR_FEATURE = "neighbour"
NEAR_GROUP = "neighbour_group"

INTERACTIONS_SCHEMA = (
    "user_id {user}, item_id {item}, rating double, timestamp timestamp, "
    "label tinyint, rows bigint, conflicting boolean"
)
SPLIT_SCHEMA = f"{INTERACTIONS_SCHEMA}, fold string"
REJECTS_SCHEMA = (
    "reason string, user string, item string, rating string, timestamp string, line string"
)
# `{id}` is the type of user or item ids.
FEATURE_ROWS_SCHEMA = "id {id}, group string, value string, weight double"
FEATURE_VALUES_SCHEMA = "group string, value string, found string, ids bigint"
FEATURE_REJECTS_SCHEMA = (
    "source string, reason string, id string, group string, value string, line string"
)
ITEMS_SCHEMA = (
    "item_index int, item_id {item}, positives int, trained boolean, bias float, "
    "embedding array<float>, history array<float>"
)
USERS_SCHEMA = (
    "user_index int, user_id {user}, trained boolean, bias float, embedding array<float>, "
    "seen array<int>"
)
MODEL_FEATURES_SCHEMA = (
    "name string, group string, value string, ids bigint, bias float, embedding array<float>"
)
# What a training needs to go on: a row for each id, in the order of `position`.
_STATE_SCHEMA = (
    "biases float, bias_gradients float, bias_momentum float, average_biases float, "
    "embeddings array<float>, embedding_gradients array<float>, embedding_momentum array<float>, "
    "average_embeddings array<float>"
)
ITEM_STATE_SCHEMA = f"position int, item_id {{item}}, {_STATE_SCHEMA}"
USER_STATE_SCHEMA = f"position int, user_id {{user}}, {_STATE_SCHEMA}"
TRAINING_STATE_SCHEMA = "epochs int, averaged int, random array<bigint>"
LIKES_TYPE = "array<struct<item_id:string,weight:double>>"
REQUESTS_SCHEMA = f"requested string, user_id {{user}}, times_requested bigint, liked {LIKES_TYPE}"
CANDIDATE_ROWS_SCHEMA = "requested string, user_id {user}, item_index int"
FOLD_IN_SCHEMA = (
    "kind string, matrix array<float>, intercept array<float>, bias_scale double, "
    "shrinkage double, second string, gram array<float>, confidence double, scale double"
)
ROUTED_SCHEMA = (
    "user_id {user}, source string, known boolean, also_seen array<int>, liked array<int>, "
    "candidates array<int>, weights array<double>, part int"
)
# Here `source` is the user's own, whatever the item.
RANKED_SCHEMA = "user_id {user}, rank int, item_id {item}, score float, cold boolean, source string"
# Run date, cohort and run id stand in the rows, and no directory is called `key=value`: Iceberg
# takes partitions from there, and no reader has to infer types from paths.
RECOMMENDATIONS_SCHEMA = (
    "run_date date, cohort string, user_id {user}, rank int, item_id {item}, score float, "
    "probability float, source string, model_id string, run_id string, generated_at timestamp"
)

OUTCOMES_SCHEMA = (
    "requested string, user_id {user}, times_requested bigint, status string, n_items int, "
    "reason string"
)
STATUS_SCHEMA = f"run_date date, cohort string, {OUTCOMES_SCHEMA}, run_id string"
TITLES_SCHEMA = (
    "run_date date, cohort string, item_id {item}, title string, image string, link string, "
    "run_id string"
)

# `{near}` is the type of the neighbours' ids, which may be those of another table.
NEIGHBOURS_SCHEMA = "id {id}, rank int, neighbour_id {near}, cosine float"
SIMILAR_ITEMS_SCHEMA = (
    "run_date date, item_id {item}, rank int, neighbour_id {item}, cosine float, model_id string, "
    "run_id string, generated_at timestamp"
)
SIMILAR_USERS_SCHEMA = (
    "run_date date, user_id {user}, rank int, neighbour_id {user}, cosine float, model_id string, "
    "run_id string, generated_at timestamp"
)
SIMILAR_FEATURES_SCHEMA = (
    "run_date date, kind string, feature string, group string, rank int, neighbour string, "
    "neighbour_group string, cosine float, model_id string, run_id string, generated_at timestamp"
)
FEATURE_ITEMS_SCHEMA = (
    "run_date date, feature string, group string, rank int, item_id {item}, cosine float, "
    "model_id string, run_id string, generated_at timestamp"
)
# All tables of neighbours, each a folder below the root with its schema.
NEIGHBOUR_TABLES = {
    "similar_items": SIMILAR_ITEMS_SCHEMA,
    "similar_users": SIMILAR_USERS_SCHEMA,
    "similar_features": SIMILAR_FEATURES_SCHEMA,
    "feature_items": FEATURE_ITEMS_SCHEMA,
}
TEST_USERS_SCHEMA = (
    "user_id {user}, source string, known boolean, also_seen array<int>, liked array<int>, "
    "relevant array<int>, outside int, history int, segment string, part int"
)
USER_METRICS_SCHEMA = (
    "user_id {user}, model string, k int, history int, segment string, relevant int, "
    "precision double, recall double, average_precision double, "
    "average_precision_truncated double, ndcg double, reciprocal_rank double, hit_rate double, "
    "novelty double, popular_share double, auc double, full_reciprocal_rank double"
)
EVALUATED_SCHEMA = f"{USER_METRICS_SCHEMA}, items array<int>"
TRIALS_SCHEMA = (
    "trial int, state string, ndcg double, kept_epoch int, seconds double, started_at timestamp, "
    "no_components int, learning_rate double, item_alpha double, user_alpha double, "
    "max_sampled int, ema_decay double, user_exponent double, rating string, "
    "epochs array<int>, curve array<double>, reason string"
)
METRICS_SCHEMA = (
    "model string, segment string, metric string, k int, value double, low double, high double, "
    "n_users bigint"
)
# What `recsys diff --output` writes.
_COMPARED = "cohort string, run_before string, run_after string"
DIFFERENCE_USERS_SCHEMA = (
    f"{_COMPARED}, user_id {{user}}, served_before string, served_after string, items_before int, "
    "items_after int, entered int, left int, moved int, overlap double, rank_correlation double"
)
DIFFERENCE_ITEMS_SCHEMA = (
    f"{_COMPARED}, item_id {{item}}, title string, lists_before bigint, lists_after bigint, "
    "share_before double, share_after double"
)
DIFFERENCE_CHANGES_SCHEMA = (
    f"{_COMPARED}, user_id {{user}}, item_id {{item}}, change string, rank_before int, "
    "rank_after int, score_before float, score_after float, cause string"
)


def names(schema: str) -> list[str]:
    """Return the column names of a schema in this module, in order."""
    return [field.split()[0] for field in schema.split(", ")]
