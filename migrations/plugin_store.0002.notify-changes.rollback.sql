-- If the table is missing, these statements do nothing.
DROP TRIGGER IF EXISTS plugin_config_notify_truncate ON plugin_config;

DROP TRIGGER IF EXISTS plugin_config_notify_update ON plugin_config;

DROP TRIGGER IF EXISTS plugin_config_notify_rows ON plugin_config;

DROP FUNCTION IF EXISTS plugin_config_notify();
