-- Every stored plugin whose status is enabled, by name.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
 WHERE status = 'enabled'
 ORDER BY plugin_name
