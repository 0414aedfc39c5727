-- Receive each committed change of each table plugin_config in this database, on the channel plugin_config.
-- The payload is a JSON object: {"schema": "public", "plugin": "mail"}; after TRUNCATE the plugin is null, for all.
-- A listener ignores the payloads of other schemas. Before migration 0003, the payload is a bare
-- name.
LISTEN plugin_config
