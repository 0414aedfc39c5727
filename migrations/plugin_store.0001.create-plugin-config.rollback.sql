-- Drops the table with all that it holds, and the trigger with it.
DROP TABLE IF EXISTS plugin_config;

DROP FUNCTION IF EXISTS plugin_config_stamp();
