"""Argument strings that nobody thought of."""

from hypothesis import given
from hypothesis import strategies as st
from invariants import run

from kgt_lightning import describe

VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(value=VALUES)
def test_a_value_of_any_characters(tmp_path_factory, value):
    run(describe.main, f"model.width={value}", "size=[8,8]", folder=tmp_path_factory.mktemp("here"))
