-- Let this transaction wait for a lock for a minute at most, unless the role or the database sets a limit.
SELECT set_config('lock_timeout', '60s', true)
 WHERE current_setting('lock_timeout') = '0'
