"""Tests of TLS to PostgreSQL. `data/` holds a CA, its certificate for `localhost`, and a CA that signed nothing.

The keys of the CAs are not stored. To create new files:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=Tests" \\
        -keyout ca-key.pem -out ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \\
        -keyout server-key.pem -out server.csr
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca-key.pem -days 36500 \\
        -extfile <(echo subjectAltName=DNS:localhost) -out server.pem
"""
