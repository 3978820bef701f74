"""Exit status 0 if the door answers, and the store behind it: the container's health check, with nothing but Python."""

import http.client
import ssl
import sys

if __name__ == "__main__":
    unchecked = ssl.create_default_context()
    # Its certificate is for those outside: this asks only whether anything answers.
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", 8333, timeout=4, context=unchecked)
    connection.request("GET", "/healthz")
    sys.exit(connection.getresponse().status != 200)
