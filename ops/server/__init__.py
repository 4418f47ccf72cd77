"""The web server: gunicorn, its worker class, and its own error responses."""
