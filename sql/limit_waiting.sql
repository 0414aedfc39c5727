-- Let this transaction wait 15 seconds for a lock at most, unless the role or the database sets a limit.
SELECT set_config('lock_timeout', '15s', true)
 WHERE current_setting('lock_timeout') = '0'
