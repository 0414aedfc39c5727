-- Take keys out of the stored config and lay others over it, top level only. The update itself locks the row and reads
-- it again, so writers of different keys all win. The version moves even where the trigger that stamps it is disabled.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted.
INSERT INTO plugin_config AS stored (plugin_name, config)
SELECT %(plugin_name)s::text, %(changes)s::jsonb
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 1
    ON CONFLICT (plugin_name) DO UPDATE
   SET config = (stored.config - ARRAY(SELECT jsonb_array_elements_text(%(remove)s::jsonb))) || excluded.config,
       updated_at = greatest(clock_timestamp(), stored.updated_at + interval '1 microsecond')
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
