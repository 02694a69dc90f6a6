"""What the service does, between the routes and the database."""
