"""A worker of few words: `scripted_worker.py PORT BEHAVIOUR DIRECTORY`. Standard library only, to start fast.

steady      healthy until SIGTERM
stubborn    healthy, ignores SIGTERM
parent      healthy, with a child process of its own that ignores SIGTERM
broken      writes an error and ends
flaky       ends at its first start, healthy afterwards
mute        healthy for one probe, then never answers again (healthy at its second start)
"""

import os
import signal
import socket
import sys
import time

port, behaviour, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3]
print(f"pid {os.getpid()}", flush=True)

marker = os.path.join(directory, f"{behaviour}-was-here")
first_time = not os.path.exists(marker)
open(marker, "w").close()

if behaviour == "broken" or (behaviour == "flaky" and first_time):
    print("Traceback (most recent call last):\nValueError: the model has a hole", flush=True)
    sys.exit(3)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "parent":
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(60)
    print(f"child {child}", flush=True)

with socket.create_server(("127.0.0.1", port)) as server:
    while True:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        connection.close()
        if behaviour == "mute" and first_time:
            time.sleep(60)
