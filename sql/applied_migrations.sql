-- Return the names of the migrations that yoyo has applied, including other packages' migrations.
SELECT migration_id FROM _yoyo_migration
