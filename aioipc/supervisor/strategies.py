"""Who is restarted with one that failed (pure; Erlang's words and rules).

    one_for_one    nobody
    one_for_all    all other children
    rest_for_one   the children that were started after it

They are stopped in reverse start order, each gone before the next is asked; then all are started in start order, the
one that failed among them. The replicas of a child are started at once, so none is "after" another: rest_for_one
leaves them alone, one_for_all takes them all.
"""

from __future__ import annotations

from typing import Literal, get_args

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)


def companions(strategy: Strategy, failed: int, count: int) -> range:
    """Return the places, of ``count`` children in start order, of those to be stopped when the one at ``failed`` fails.

    Under one_for_all that includes its own: for its other replicas.
    """
    if strategy == "one_for_all":
        return range(count)
    if strategy == "rest_for_one":
        return range(failed + 1, count)
    return range(0)
