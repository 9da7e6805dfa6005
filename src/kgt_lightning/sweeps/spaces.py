"""What a search may choose from, read from Hydra's grammar for sweeps, and whether it is possible."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def read_space(override: Override) -> BaseDistribution:
    """What a parameter may be, from Hydra's grammar for sweeps.

    ``choice(16,64,256)`` is a list of texts, ``range(2,8,step=2)`` are the numbers 2, 4 and 6, whole ones or fractions,
    ``interval(0.1,0.5)`` is any fraction; ``tag(log,...)`` around one of the last two looks at magnitudes.

    Raises:
        ValueError: for what cannot be searched, naming the parameter.

    """
    key, text, value = override.get_key_element(), override.get_value_string(), override.value()
    tags: set[str] = getattr(value, "tags", set())
    log_scale = "log" in tags
    try:
        if tags - {"log"}:
            raise ValueError(f"tag {', '.join(sorted(tags - {'log'}))} is unknown, the only one is log")
        if getattr(value, "shuffle", False):
            raise ValueError("the order of what is searched means nothing, leave shuffle out")
        if isinstance(value, IntervalSweep):
            if isinstance(value.start, int):
                raise ValueError("an interval holds fractions, whole numbers are range(from,to), without to itself")
            return FloatDistribution(value.start, value.end, log=log_scale)  # type: ignore[arg-type]
        if isinstance(value, RangeSweep):
            numbers = list(value.range())
            if not numbers:
                raise ValueError("no number lies in it")
            if all(isinstance(number, int) for number in numbers):
                return IntDistribution(numbers[0], numbers[-1], step=int(value.step), log=log_scale)
            if log_scale:
                raise ValueError("steps and log exclude each other, write tag(log,interval(from,to))")
            return FloatDistribution(numbers[0], numbers[-1], step=value.step)
        if log_scale:
            raise ValueError("a choice has no log")
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise ValueError(f"{key}={text}: {error}") from error


def refuse_impossible(
    spaces: Mapping[str, BaseDistribution], *, problem: Callable[[Sequence[str]], str | None]
) -> None:
    """See to it that every choice and every end of a range is possible, with some choice of the others at least.

    Args:
        spaces: by key.
        problem: what is wrong with the arguments of a point, or None.

    Raises:
        ValueError: naming the first that is not.

    """
    for point in corners(spaces):
        if told := problem(point):
            for chosen in point:
                of_others = ([chosen] if chosen in each else each for each in _ends(spaces))
                if all(problem(other) for other in product(*of_others)):
                    raise ValueError(f"no trial is started, {chosen} is impossible: {told}")


def corners(spaces: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Arguments for points in which every end of a range and every choice occurs, to try whether they are possible."""
    ends = _ends(spaces)
    return [[each[i % len(each)] for each in ends] for i in range(max(map(len, ends)))]


def _ends(spaces: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Arguments for every choice, or for both ends of a range, of each space."""
    return [
        [
            f"{key}={end}"
            for end in (space.choices if isinstance(space, CategoricalDistribution) else (space.low, space.high))  # type: ignore[attr-defined]
        ]
        for key, space in spaces.items()
    ]
