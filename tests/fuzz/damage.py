"""What happens to files on their way: bytes that changed, were lost, or came twice."""

from hypothesis import settings
from hypothesis import strategies as st


def fewer(times: int) -> settings:
    """So many times fewer cases than other tests try."""
    return settings(max_examples=max(settings.default.max_examples // times, 1))


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content after one to three accidents, most near its start or end, where formats say what is where."""
    for _ in range(draw(st.integers(1, 3))):
        content = _accident(draw, content)
    return content


def _accident(draw: st.DrawFn, content: bytes) -> bytes:
    size = len(content)
    near = min(size, 400)
    start = draw(st.one_of(st.integers(0, near), st.integers(size - near, size), st.integers(0, size)))
    length = draw(st.one_of(st.integers(1, 8), st.integers(1, max(size, 1))))
    end = min(start + length, size)
    kind = draw(st.sampled_from(["bits", "bytes", "cut", "lost", "twice", "zeros", "ones"]))
    if kind == "cut":
        return content[:start]
    if kind == "lost":
        return content[:start] + content[end:]
    if kind == "twice":
        return content[:end] + content[start:]
    if kind == "bits":
        flips = draw(st.lists(st.tuples(st.integers(0, max(size - 1, 0)), st.integers(0, 7)), max_size=4))
        flips += [(start, draw(st.integers(0, 7)))]
        changed = bytearray(content)
        for place, bit in flips:
            if place < size:
                changed[place] ^= 1 << bit
        return bytes(changed)
    filling = {"zeros": b"\0", "ones": b"\xff"}.get(kind)
    new = filling * (end - start) if filling else draw(st.binary(min_size=1, max_size=16))
    return content[:start] + new + content[start + len(new) :]
