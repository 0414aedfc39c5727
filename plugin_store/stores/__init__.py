"""What is stored of plugins, and where. Knows no plugin."""
