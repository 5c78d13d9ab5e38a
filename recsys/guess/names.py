"""What names of columns suggest."""

import re
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


USERS = words(
    "user customer client household person people visitor member account reader listener viewer "
    "player buyer patient student subscriber reviewer rater shopper guest profile consumer "
    "learner borrower follower voter tourist traveller passenger panelist cust usr"
)
ITEMS = words(
    "item product movie film book song track artist article content sku stock isbn asin video "
    "game business recipe show anime joke place poi venue restaurant hotel course document page "
    "app post offer media episode series album podcast program programme channel job listing ad "
    "news story dish beer wine paper prod goods service title material"
)
RATINGS = words("rating ratings rate score stars star overall grade vote preference")
COUNTS = words(
    "quantity qty plays playcount count listens clicks views hours weight times freq frequency "
    "purchases playtime interactions scrobbles units amount n"
)
TIMES = words("timestamp time date datetime ts when created at day tstamp unixtime epoch")
EVENTS = words("event action behavior behaviour activity interaction type kind verb")
TITLES = words("title name label headline caption")
_IDS = words("id ids code key no nr num number uuid guid hash pk")
# Ids of other things, and what users and items have.
_OTHER = words(
    "basket session order invoice transaction store shop trip visit request campaign row index "
    "price cost value sales disc discount revenue age gender sex zip country city email url "
    "image img link category genre brand department description average avg mean median year "
    "week month"
)
_SHORT = {"uid": "user", "iid": "item", "pid": "item", "mid": "item", "bid": "item"}


def tokens(name: str) -> list[str]:
    """Return the words of a name, small: `CustomerID`, `customer_id` and `customerid` alike."""
    found: list[str] = []
    for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name):
        word = part.lower()
        found += [_SHORT[word], "id"] if word in _SHORT else _split_id(word)
    return found


def _split_id(word: str) -> list[str]:
    for suffix in sorted(_IDS, key=len, reverse=True):
        rest = word.removesuffix(suffix)
        if rest != word and (_one(rest) in USERS | ITEMS or rest in _OTHER):
            return [rest, suffix]
    return [word]


def _one(word: str) -> str:
    """Return a word in the singular."""
    return word[:-1] if word.endswith("s") and word[:-1] in USERS | ITEMS else word


def is_known(name: str) -> bool:
    """Whether a name is one that columns have, not a value."""
    found = {_one(word) for word in tokens(name)}
    known = USERS | ITEMS | RATINGS | COUNTS | TIMES | EVENTS | TITLES | _IDS | _OTHER
    return bool(found) and found <= known and re.fullmatch(r"[\w .-]{1,40}", name) is not None


def looks_like_id(name: str) -> bool:
    """Whether a name says that the column has ids, of whatever."""
    return bool(set(tokens(name)) & _IDS)


def says(name: str, about: Iterable[str]) -> float:
    """Return how clearly a name says that a column is about one of some words, from 0 to 1.

    For users and items a name is clearest with `id` behind the word; `author_person_id` is less
    clear than `person_id`.
    """
    known = set(about)
    found = [_one(word) for word in tokens(name)]
    hits = [word for word in found if word in known]
    if not hits:
        return 0.0
    rest = [word for word in found if word not in known and word not in _IDS]
    score = 1.0 if set(found) & _IDS else 0.8
    if rest:
        score = 0.5 if set(found) & _IDS and not set(rest) & _OTHER else 0.2
    return score - 0.01 * len(found)


def is_other(name: str) -> bool:
    """Whether a name is that of something which is neither a rating, nor a time, nor an id."""
    return bool(set(tokens(name)) & _OTHER)
