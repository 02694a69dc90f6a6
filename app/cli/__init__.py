"""The nasatlas command."""
