-- Receive each committed change of each table plugin_config in this database, on the channel plugin_config.
-- The payload is a JSON object: {"schema": "public", "plugin": "mail"}; after TRUNCATE the plugin is null, for all.
-- A listener ignores the payloads of other schemas. A payload of another form is from before migration 0003:
-- treat it as a change of all plugins.
LISTEN plugin_config
