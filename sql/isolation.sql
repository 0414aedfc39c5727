-- How much of what others commit the transaction sees: `read committed` is PostgreSQL's default.
SELECT current_setting('transaction_isolation')
