"""What runs in the enclave. Put your program here."""

import hashlib
import platform
import threading


def work(found: list[str]) -> None:
    found.append(hashlib.sha256(b"in a thread").hexdigest())


found: list[str] = []
thread = threading.Thread(target=work, args=(found,))
thread.start()
thread.join()
print("Hello from Python", platform.python_version(), found[0][:16])
