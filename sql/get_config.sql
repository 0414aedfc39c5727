-- The config alone, or no row.
SELECT config
  FROM plugin_config
 WHERE plugin_name = %(plugin_name)s
