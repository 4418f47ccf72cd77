"""A self-signed certificate for 127.0.0.1 with its key, for tests only; trusted only through SSL_CERT_FILE."""

import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("certificate.pem")


def server_context() -> ssl.SSLContext:
    """Return the context for `Upstream(tls=...)`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    return context
