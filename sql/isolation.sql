-- Return the isolation level of this transaction. PostgreSQL's default is `read committed`.
SELECT current_setting('transaction_isolation')
