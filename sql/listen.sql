-- Hear of each change of the table, from any session: migration 0002 announces them on this channel.
LISTEN plugin_config
