-- One stored plugin, or no row.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
 WHERE plugin_name = %(plugin_name)s
