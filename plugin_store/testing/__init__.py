"""For tests, with pytest: the suite that every PluginConfigStore passes, and fixtures for services.

A store of your own runs the suite like this, with an empty store for each test::

    from plugin_store.testing import PluginConfigStoreContract

    class TestMyStore(PluginConfigStoreContract):
        @pytest.fixture
        def store(self):
            return MyStore()

A store that threads share also runs ConcurrentPluginConfigStoreContract, in the same way.
The checks of names, statuses and configs that a store needs are in ``plugin_store.stores.validation``.

The fixtures are in ``plugin_store.testing.fixtures``.
"""

from __future__ import annotations

import pytest

# Before the imports: pytest then shows the compared values when an assertion of the suite fails.
pytest.register_assert_rewrite(f"{__name__}.concurrency", f"{__name__}.methods", f"{__name__}.rows")

from .concurrency import ConcurrentPluginConfigStoreContract  # noqa: E402
from .methods import MethodsContract  # noqa: E402
from .rows import ValuesContract, VersionsContract  # noqa: E402

__all__ = ["ConcurrentPluginConfigStoreContract", "PluginConfigStoreContract"]


class PluginConfigStoreContract(MethodsContract, ValuesContract, VersionsContract):
    """The contract of PluginConfigStore. Derive a test class, and define a fixture ``store``."""
