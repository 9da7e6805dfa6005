"""How long hypothesis looks: a few hundred cases, the same every time, or for minutes with ``make fuzz``, new ones."""

import os
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings

# Folders and checkpoints are made once, for all cases of a test.
_SHARED = {"deadline": None, "suppress_health_check": list(HealthCheck)}
_QUICK = {"derandomize": True, "database": None, "phases": [Phase.explicit, Phase.generate]}
settings.register_profile("ci", max_examples=40, **_QUICK, **_SHARED)
# Rounds of minutes, so that make fuzz ends nearly in time.
settings.register_profile("long", max_examples=150, print_blob=True, **_SHARED)
settings.load_profile("long" if "FUZZ_MINUTES" in os.environ else "ci")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HYDRA_FULL_ERROR", "KGT_DATA"):
        monkeypatch.delenv(name, raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("memory is bounded as Linux does")
