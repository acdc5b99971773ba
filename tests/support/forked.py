"""Scripts run as a command would run them, in a child that need not import torch again."""

import os
import runpy
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path


def run_script(
    script: Path, *arguments: str, folder: Path, environment: Mapping[str, str], said: Path, errors: Path | None = None
) -> int:
    """Run a script in `folder`, what it says going to `said` (and `errors`, where given); returns its exit code."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        signal.alarm(570)
        for number, path in ((1, said), (2, errors or said)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
        os.chdir(folder)
        os.environ.update(environment)
        sys.argv = [str(script), *arguments]
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        runpy.run_path(str(script), run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
