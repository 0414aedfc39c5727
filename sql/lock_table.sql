-- Keep all other writers out until the transaction ends; readers go on.
LOCK TABLE plugin_config IN SHARE ROW EXCLUSIVE MODE
