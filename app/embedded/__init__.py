"""PostgreSQL and Valkey from wheels, and the processes of the service, supervised on one machine."""
