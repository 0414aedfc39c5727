"""The stored state of plugins, and the stores. Does not import plugins."""
