-- Whether the table announces its changes, by the triggers of migration 0002; true too while there is no table,
-- which who reads it will say better.
SELECT to_regclass('plugin_config') IS NULL
    OR EXISTS (SELECT
                 FROM pg_trigger
                WHERE tgrelid = to_regclass('plugin_config')
                  AND tgname = 'plugin_config_notify_rows'
                  AND tgenabled <> 'D')
