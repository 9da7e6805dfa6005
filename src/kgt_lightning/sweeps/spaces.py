"""What a search may choose from: Optuna's distributions, written in Hydra's grammar for sweeps."""

from collections.abc import Mapping

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
            if all(isinstance(each, int) for each in numbers):
                return IntDistribution(numbers[0], numbers[-1], step=int(value.step), log=log_scale)
            if log_scale:
                raise ValueError("steps and log exclude each other, write tag(log,interval(from,to))")
            return FloatDistribution(numbers[0], numbers[-1], step=value.step)
        if log_scale:
            raise ValueError("a choice has no log")
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise ValueError(f"{key}={text}: {error}") from error


def corners(spaces: Mapping[str, BaseDistribution]) -> list[list[str]]:
    """Arguments for points in which every end of a range and every choice occurs, to try whether they compose."""
    ends = {
        key: list(space.choices) if isinstance(space, CategoricalDistribution) else [space.low, space.high]  # type: ignore[attr-defined]
        for key, space in spaces.items()
    }
    return [
        [f"{key}={of_key[i % len(of_key)]}" for key, of_key in ends.items()]
        for i in range(max(map(len, ends.values())))
    ]
