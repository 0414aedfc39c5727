-- Every stored plugin, by name. The column's collation makes this the order of Python's sort.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
 ORDER BY plugin_name
