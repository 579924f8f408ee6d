"""`python -m engine_adapter.vllm.server FLAGS`: vLLM's OpenAI server behind our start-up check.

vLLM starts its engine as a child process that imports this module again under the name `__mp_main__`. Being
our own module it costs nothing there, where vLLM's would import the whole web server a second time, and it
lets the engine process die with its server, whatever kills that.
"""

from __future__ import annotations

import os
import signal
import sys

from engine_adapter.launch.causes import SAYS_SO_ITSELF
from engine_adapter.launch.process import die_with_parent

EX_CONFIG = 78


def main() -> None:
    """Check the installation, then become vLLM's server."""
    from engine_adapter.vllm import pin

    found = pin.installed()
    problem = pin.version_problem(found) or pin.torchvision_problem()
    if problem is None:
        try:
            pin.require_platform(found)
            serve = pin.server_entry()
        except Exception as error:
            problem = f"vLLM does not start here: {type(error).__name__}: {error}"
    if problem is not None:
        sys.stderr.write(f"{SAYS_SO_ITSELF}{problem}\n")
        sys.exit(EX_CONFIG)
    serve()


if __name__ == "__mp_main__":
    die_with_parent(signal.SIGKILL, os.getppid())
elif __name__ == "__main__":
    main()
