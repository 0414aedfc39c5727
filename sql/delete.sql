-- Forget a plugin; a row comes back if there was one.
DELETE FROM plugin_config
 WHERE plugin_name = %(plugin_name)s
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
