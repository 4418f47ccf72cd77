"""The use cases of the API and of jobs outside a turn; each function commits what it changes."""
