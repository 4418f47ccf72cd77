"""The HTTP API: blueprints, access, limits, errors and the handlers around each request."""
