-- Create or replace many plugins, all or none, and return how many. Rows are locked in the order of their names, so
-- that two overlapping calls wait for each other and do not deadlock.
-- The statement sets updated_at itself, in case the stamp trigger is disabled.
-- If row-level security applies to the role, the division fails: see sql/README.md.
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
