"""Exit status 0 when the process of this container says that it is ready. Nothing but sockets: it runs often."""

import os
import socket
import sys

address = os.environ["HEALTH_HOST"], int(os.environ["HEALTH_PORT"])
with socket.create_connection(address, 3) as connection:
    connection.sendall(b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
    answer = b""
    while piece := connection.recv(4096):
        answer += piece
head, _, body = answer.partition(b"\r\n\r\n")
print(body.decode(errors="replace").strip())
sys.exit(0 if head.split(b" ")[1:2] == [b"200"] else 1)
