"""A certificate for 127.0.0.1 and its key, for tests only: nobody trusts it who does not name it in SSL_CERT_FILE."""

import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("certificate.pem")


def server_context() -> ssl.SSLContext:
    """For `Upstream(tls=...)`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    return context
