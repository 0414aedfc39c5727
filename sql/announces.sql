-- Whether the table announces its changes, by all triggers of migration 0002; true too while there is no table,
-- which who reads it will say better.
SELECT to_regclass('plugin_config') IS NULL
    OR 3 = (SELECT count(*)
              FROM pg_trigger
             WHERE tgrelid = to_regclass('plugin_config')
               AND tgname IN (
                       'plugin_config_notify_rows',
                       'plugin_config_notify_update',
                       'plugin_config_notify_truncate'
                   )
               AND tgenabled IN ('O', 'A'))
