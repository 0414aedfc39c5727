-- Create or replace many plugins, all or none, and return how many. The order makes two of these that overlap wait
-- for each other instead of deadlocking: both lock the rows by name.
-- The version moves even where the trigger that stamps it is disabled.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted.
WITH written AS (
    INSERT INTO plugin_config AS stored (plugin_name, status, config)
    SELECT plugin_name, status, config
      FROM jsonb_to_recordset(%(configs)s::jsonb) AS given (plugin_name text, status text, config jsonb)
     WHERE 1 / (NOT row_security_active('plugin_config'))::int = 1
     ORDER BY plugin_name COLLATE "C"
        ON CONFLICT (plugin_name) DO UPDATE
       SET status = excluded.status,
           config = excluded.config,
           updated_at = greatest(clock_timestamp(), stored.updated_at + interval '1 microsecond')
    RETURNING 1
)
SELECT count(*) FROM written
