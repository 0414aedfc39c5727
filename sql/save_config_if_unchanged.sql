-- Replace the config only of the version that the caller has read: no row comes back when the
-- plugin has changed since, or is gone.
UPDATE plugin_config
   SET config = %(config)s
 WHERE plugin_name = %(plugin_name)s
   AND updated_at = %(expected_updated_at)s
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
