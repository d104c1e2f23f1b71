"""One campaign on several hosts: a journal, a rate and a queue in a PostgreSQL database that they share."""
