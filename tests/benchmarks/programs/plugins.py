"""What the restores without plugin_store restore."""


class Plugin:
    """A plugin, for a service that keeps its state by hand."""

    __slots__ = ("config", "enabled")

    def __init__(self) -> None:
        self.enabled = False
        self.config: dict[str, object] = {}


PLUGINS = {f"p{number:06}": Plugin() for number in range(100)}
