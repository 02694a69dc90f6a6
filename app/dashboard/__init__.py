"""The pages for people: HTML from Jinja templates, made of the same services as the API's answers."""
