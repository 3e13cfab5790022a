"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow or busy machine is no reason to fail: what is tested is the answer, not the time one example takes.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
