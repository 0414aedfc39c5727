-- Drops the table, its rows and its trigger.
DROP TABLE IF EXISTS plugin_config;

DROP FUNCTION IF EXISTS plugin_config_stamp();
