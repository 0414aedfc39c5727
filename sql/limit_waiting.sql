-- Let this transaction wait at most 15 seconds for a lock, unless the role or the database sets a limit.
SELECT set_config('lock_timeout', '15s', true)
 WHERE current_setting('lock_timeout') = '0'
