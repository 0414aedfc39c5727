-- Create or replace many plugins, all or none. The order makes two of these that overlap wait
-- for each other instead of deadlocking: both lock the rows by name.
INSERT INTO plugin_config (plugin_name, status, config)
SELECT plugin_name, status, config
  FROM jsonb_to_recordset(%(configs)s) AS given (plugin_name text, status text, config jsonb)
 ORDER BY plugin_name COLLATE "C"
    ON CONFLICT (plugin_name) DO UPDATE
   SET status = excluded.status,
       config = excluded.config
