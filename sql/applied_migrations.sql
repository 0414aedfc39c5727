-- The names of the migrations that yoyo has applied, those of other packages too.
SELECT migration_id FROM _yoyo_migration
