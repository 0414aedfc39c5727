-- Forget a plugin; its name comes back if there was a row. Not its config: one that cannot be read is deleted too.
DELETE FROM plugin_config
 WHERE plugin_name = %(plugin_name)s
RETURNING plugin_name
