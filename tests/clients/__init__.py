"""Clients as front-end developers build them: linters and generators of the OpenAPI document, and a browser page."""
